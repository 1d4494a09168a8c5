"""Refuses what is no function of tensors alone, where many episodes are computed as one.

Mapped over episodes, a draw by NumPy or Python would be one draw for all of them, and a buffer
would be written to once for all; a program that is written down would draw once and for ever.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from torch import nn

from metafleet.errors import ConfigError
from metafleet.purity.hidden_state import Change, HiddenState, Snapshot

ResultT = TypeVar("ResultT")
Slots = Sequence[tuple[object, str]]
"""Objects, and names of their attributes."""

_DRAWS: Final = ("randomness error mode", "with a Generator", "random operation")
_WRITES: Final = ("inplace arithmetic", "in-place", "inplace", "out=", "mutat")
"""Parts of torch's messages, as ``vmap`` has them."""


class PureFunction:
    """Computes or writes down chunks of episodes, and sees that nothing else had a part in it.

    What a module's attributes hold besides tensors, as a count of its calls, goes on where episodes
    are mapped; a program that is written down would know its first value for ever. Tensors that a
    forward pass leaves in an attribute are dropped, and refused where a later pass reads them.

    Args:
        hidden: of the learner.
        strategy: its name, for messages.
    """

    def __init__(self, hidden: HiddenState, strategy: str) -> None:
        self._hidden, self._strategy = hidden, strategy
        self._never_read: set[tuple[int, str]] = set()

    def __call__(
        self, compute: Callable[[], ResultT], is_same: Callable[[ResultT, ResultT], bool]
    ) -> ResultT:
        """Return what ``compute`` does.

        Args:
            compute: a chunk.
            is_same: whether two results are.

        Raises:
            ConfigError: it draws at random, or changes what is not an episode's own.
        """
        before = self._hidden.capture()
        result = self._run(compute, before)
        assert before.generators is not None
        drew = self._hidden.generators.drew(before.generators)
        changed = self._refused(self._hidden.changes(before))
        touched = self._hidden.touched(before)
        if drew or changed:
            self._hidden.restore(before)
            raise self._refusal(f"draws from {drew}" if drew else f"changes {changed[0]}")
        self._hidden.restore_tensors(before)
        if new := [slot for slot in touched if _key(*slot) not in self._never_read]:
            self._require_unread(new, lambda: is_same(result, compute()))
        return result

    def _run(self, compute: Callable[[], ResultT], before: Snapshot) -> ResultT:
        try:
            return compute()
        except Exception as error:
            what = _reason(str(error), self._refused(self._hidden.changes(before)))
            self._hidden.restore(before)
            if what:
                raise self._refusal(what) from error
            raise

    def _require_unread(self, slots: Slots, is_same_again: Callable[[], bool]) -> None:
        """Make sure that nothing depends on what a forward pass left in attributes.

        Everything is computed once more, and they are emptied after each forward pass.
        """
        before = self._hidden.capture()
        is_unread = False
        with suppress(Exception), _emptied(slots):  # whatever comes of it: something was missed
            is_unread = is_same_again()
        self._hidden.restore(before)
        if not is_unread:
            raise self._refusal(f"keeps tensors in attribute {slots[0][1]!r} for its next pass")
        self._never_read.update(_key(*slot) for slot in slots)

    def _refused(self, changes: list[Change]) -> list[str]:
        """Name the changes that episodes computed as one cannot each make."""
        is_compiled = self._strategy == "compiled"
        return [
            change.name
            for change in changes
            if change.kind != "attribute" or (is_compiled and change.is_number)
        ]

    def _refusal(self, what: str) -> ConfigError:
        return ConfigError(
            f"the model cannot be mapped over episodes as {self._strategy!r} does: it {what}, "
            "which each episode would do for itself; switch that off, or choose "
            "execution='autograd' or 'constant_memory'"
        )


def _reason(message: str, changed: list[str]) -> str:
    """Say what torch refused, where it is one of ours; "" where it is something else."""
    if any(part in message for part in _DRAWS):
        return "draws at random"
    if any(part in message for part in _WRITES):
        return f"changes {changed[0]}" if changed else "writes to a buffer in place"
    return ""


def _key(owner: object, name: str) -> tuple[int, str]:
    return id(owner), name


@contextmanager
def _emptied(slots: Slots) -> Iterator[None]:
    """Empty attributes now, and whenever their module has run."""
    handles = []
    for owner, name in slots:

        def empty(layer: Any, *_: object, name: str = name) -> None:
            value = layer.__dict__.get(name)
            if isinstance(value, list | dict | set):
                value.clear()
            else:
                layer.__dict__.pop(name, None)

        empty(owner)
        if isinstance(owner, nn.Module):
            handles.append(owner.register_forward_hook(empty))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
