"""Parts of an episode that are computed twice: the second time from what the first one met.

A module may draw at random or change its buffers, so its parts are functions of a hidden state too.
Each part is a step of that state; a part that is computed again begins with the state that it
first began with. A buffer may also carry a record for autograd from one part into the next, as an
average that is not detached; derivatives follow it as they would without recomputation.
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
"""Derivatives for tensors of the hidden state, by where they are."""


class Replay:
    """The hidden states that the parts of one episode met, in order.

    Args:
        hidden: of the learner.
        is_careful: False for an episode without any, so far as one knows: nothing is captured then.
    """

    def __init__(self, hidden: HiddenState, *, is_careful: bool) -> None:
        self.is_careful = is_careful
        self._hidden = hidden
        self._met: list[tuple[Snapshot, frozenset[Path]]] = []
        self._linked: frozenset[Path] = frozenset()

    def first(self, compute: Callable[[], ResultT]) -> ResultT:
        """Compute a part, and remember what it met."""
        if not self.is_careful:
            return compute()
        self.remember()
        self._meet(*self._met[-1])
        result = compute()
        self._linked = self._hidden.unlink()
        return result

    def remember(self) -> None:
        """Remember what the next part meets."""
        if self.is_careful:
            self._met.append((self._hidden.capture(), self._linked))

    def again(self) -> Slopes:
        """Go back to what the last part met that was not gone back to.

        Returns:
            Tensors of the hidden state that earlier parts left a record in, as leaves to be
            differentiated for.
        """
        if not self.is_careful:
            return {}
        self._latest = self._met.pop()
        return self._meet(*self._latest)

    def repeat(self) -> None:
        """Go back to the same once more."""
        if self.is_careful:
            self._meet(*self._latest)

    def _meet(self, snapshot: Snapshot, linked: frozenset[Path]) -> Slopes:
        self._hidden.restore(snapshot)
        leaves = {
            path: tensor.detach().clone().requires_grad_()
            for path, tensor in (self._hidden.tensors() if linked else {}).items()
            if path in linked
        }
        if leaves:  # through copies, for leaves must not be written to in place
            with torch.enable_grad():
                copies = {path: leaf.clone() for path, leaf in leaves.items()}
            self._hidden.restore(snapshot, copies)
        return leaves

    def with_product(self, value: Tensor, slopes: Mapping[Path, Tensor]) -> Tensor:
        """Return a value plus slopes times what the part left in the hidden state."""
        left = self._hidden.linked() if slopes else {}
        remaining = {str(path): slope for path, slope in slopes.items() if path in left}
        if not remaining:
            return value
        return value + dot(remaining, {str(path): tensor for path, tensor in left.items()})

    def end(self) -> Snapshot | None:
        """Return what the episode leaves, cut off from how it was computed."""
        if not self.is_careful:
            return None
        self._hidden.unlink()
        return self._hidden.capture()

    def close(self, end: Snapshot | None) -> None:
        """Set the hidden state to what the episode left."""
        if end is not None:
            self._hidden.restore(end)


def require_same(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    third: Callable[[], Mapping[str, Tensor]],
    *,
    tolerance: float,
) -> None:
    """Make sure that a part that was computed again is the same function.

    Recorded for the way back, a step may be computed by other kernels, which round otherwise. So
    bits that differ by no more than that are compared with those of a third computation, recorded
    as well; GPUs do not always repeat bits.

    Args:
        first: what came out at first.
        second: what came out again.
        third: computes it once more.
        tolerance: of rounding, as a share of the largest value; at least that of the precision.

    Raises:
        ConfigError: it is another one.
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
        return True  # refused elsewhere, and by its name
    share = max(tolerance, torch.finfo(first.dtype).eps ** 0.5)
    largest = float(first.abs().max()) if first.numel() else 0.0
    return torch.allclose(first, second, rtol=0.0, atol=share * largest)


def _is_identical(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(torch.isnan(one).any())
