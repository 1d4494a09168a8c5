"""Recompute parts of an episode, starting from the same hidden state as the first time.

A module may draw random numbers or change its buffers, so each part of an episode may read and
change a hidden state. When a part is recomputed, it starts from the same hidden state as its first
computation. A buffer may also carry an autograd graph from one part to the next, for example if the
buffer holds a running average that is not detached. Derivatives are propagated through this graph
as they would be without recomputation.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.params import dot
from metafleet.purity.hidden_state import HiddenState, Snapshot
from metafleet.purity.kept_values import Path

ResultT = TypeVar("ResultT")
Slopes = dict[Path, Tensor]
"""Derivatives with respect to tensors of the hidden state, by path."""


class Replay:
    """The hidden states at the start of each part of an episode, in order.

    Args:
        hidden: hidden state of the learner.
        is_careful: whether to capture hidden states. With False, the episode is assumed to have
            none.
    """

    def __init__(self, hidden: HiddenState, *, is_careful: bool) -> None:
        self.is_careful = is_careful
        self._hidden = hidden
        self._met: list[tuple[Snapshot, frozenset[Path]]] = []
        self._linked: frozenset[Path] = frozenset()

    def first(self, compute: Callable[[], ResultT]) -> ResultT:
        """Compute a part, and record the hidden state at its start."""
        if not self.is_careful:
            return compute()
        self.remember()
        self._meet(*self._met[-1])
        result = compute()
        self._linked = self._hidden.unlink()
        return result

    def remember(self) -> None:
        """Record the current hidden state as the start of the next part."""
        if self.is_careful:
            self._met.append((self._hidden.capture(), self._linked))

    def again(self) -> Slopes:
        """Restore the hidden state of the latest part that has not been restored yet.

        Returns:
            The tensors of the hidden state that carry a graph of earlier parts. The tensors are
            returned as leaves, so that the part can be differentiated with respect to them.
        """
        if not self.is_careful:
            return {}
        self._latest = self._met.pop()
        return self._meet(*self._latest)

    def repeat(self) -> None:
        """Restore the hidden state that ``again`` restored last."""
        if self.is_careful:
            self._meet(*self._latest)

    def _meet(self, snapshot: Snapshot, linked: frozenset[Path]) -> Slopes:
        self._hidden.restore(snapshot)
        leaves = {
            path: tensor.detach().clone().requires_grad_()
            for path, tensor in (self._hidden.tensors() if linked else {}).items()
            if path in linked
        }
        if leaves:  # install copies, because leaves must not be written to in place
            with torch.enable_grad():
                copies = {path: leaf.clone() for path, leaf in leaves.items()}
            self._hidden.restore(snapshot, copies)
        return leaves

    def with_product(self, value: Tensor, slopes: Mapping[Path, Tensor]) -> Tensor:
        """Return ``value`` plus ``slopes`` times the tensors the part left in the hidden state."""
        left = self._hidden.linked() if slopes else {}
        remaining = {str(path): slope for path, slope in slopes.items() if path in left}
        if not remaining:
            return value
        return value + dot(remaining, {str(path): tensor for path, tensor in left.items()})

    def end(self) -> Snapshot | None:
        """Return the hidden state at the end of the episode, detached from its graph."""
        if not self.is_careful:
            return None
        self._hidden.unlink()
        return self._hidden.capture()

    def close(self, end: Snapshot | None) -> None:
        """Set the hidden state to that at the end of the episode."""
        if end is not None:
            self._hidden.restore(end)


def require_same(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    third: Callable[[], Mapping[str, Tensor]],
    *,
    tolerance: float,
) -> None:
    """Check that a recomputed part gave the same values as in its first computation.

    When a part is recomputed with an autograd graph, torch may use other kernels, which round
    differently. If the values differ only by rounding, the part is computed a third time, also with
    a graph. The third values must be equal to the second values. On GPUs, there is no third
    computation, because a GPU may give different bits each time.

    Args:
        first: results of the first computation.
        second: results of the second computation.
        third: a function that computes the part once more.
        tolerance: largest difference to tolerate, as a share of the tensor's largest absolute
            value. A share of sqrt(eps) of the dtype is always tolerated.

    Raises:
        ConfigError: the values differ.
    """
    if all(torch.equal(first[name], value) for name, value in second.items()):
        return
    if all(_is_close(first[name], value, tolerance) for name, value in second.items()):
        more = third()
        if all(v.is_cuda or _is_identical(v, more[name]) for name, v in second.items()):
            return
    raise ConfigError(
        "execution='constant_memory' but an inner step that was computed again gave other values, "
        "so something that cannot be restored has a part in it (a clock, a file, a global "
        "variable, a generator outside the module); keep it in a buffer or an attribute of the "
        "module, or choose 'autograd'"
    )


def _is_close(first: Tensor, second: Tensor, tolerance: float) -> bool:
    if not (first.is_floating_point() or first.is_complex()):
        return torch.equal(first, second)
    if not bool(torch.isfinite(first).all()):
        return True  # another check reports this with the name of the value
    share = max(tolerance, torch.finfo(first.dtype).eps ** 0.5)
    largest = float(first.abs().max()) if first.numel() else 0.0
    return torch.allclose(first, second, rtol=0.0, atol=share * largest)


def _is_identical(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(torch.isnan(one).any())
