"""Check that a computation of many episodes at once is a pure function of tensors.

Under ``vmap``, a random number that NumPy or Python draws would be the same for all episodes, and a
buffer would be written once for all episodes. A traced program would always use the random number
that was drawn during tracing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from torch import nn

from metafleet.errors import ConfigError
from metafleet.purity.hidden_state import Change, HiddenState, Snapshot

ResultT = TypeVar("ResultT")
Slots = Sequence[tuple[object, str]]
"""Pairs of an object and the name of one of its attributes."""

_DRAWS: Final = ("randomness error mode", "with a Generator", "random operation")
_WRITES: Final = ("inplace arithmetic", "in-place", "inplace", "out=", "mutat")
"""Parts of the messages of ``vmap``."""


class PureFunction:
    """Computes or traces chunks of episodes, and checks that they use no hidden state.

    When episodes are mapped, an attribute of a module that is not a tensor may change, for example
    a count of the module's calls. When episodes are traced, an attribute that is a number must not
    change, because the program would always use the number's first value. If a forward pass leaves
    tensors in an attribute, these tensors are dropped, and it is an error if a later forward pass
    reads the attribute.

    Args:
        hidden: hidden state of the learner.
        strategy: name of the strategy, for messages.
    """

    def __init__(self, hidden: HiddenState, strategy: str) -> None:
        self._hidden, self._strategy = hidden, strategy
        self._never_read: set[tuple[int, str]] = set()

    def __call__(
        self, compute: Callable[[], ResultT], is_same: Callable[[ResultT, ResultT], bool]
    ) -> ResultT:
        """Return the result of ``compute``.

        Args:
            compute: a function that computes or traces a chunk.
            is_same: a function that returns whether two results are the same.

        Raises:
            ConfigError: ``compute`` draws random numbers or changes hidden state.
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
        """Check that the result does not depend on values that a forward pass left in attributes.

        The check computes the result again and empties the attributes after each forward pass.
        """
        before = self._hidden.capture()
        is_unread = False
        with suppress(Exception), _emptied(slots):  # an error means that an emptied value was read
            is_unread = is_same_again()
        self._hidden.restore(before)
        if not is_unread:
            raise self._refusal(f"keeps tensors in attribute {slots[0][1]!r} for its next pass")
        self._never_read.update(_key(*slot) for slot in slots)

    def _refused(self, changes: list[Change]) -> list[str]:
        """Return the names of changes that are not allowed when episodes are computed at once."""
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
    """Return which impurity torch's error message reports; "" if it reports something else."""
    if any(part in message for part in _DRAWS):
        return "draws at random"
    if any(part in message for part in _WRITES):
        return f"changes {changed[0]}" if changed else "writes to a buffer in place"
    return ""


def _key(owner: object, name: str) -> tuple[int, str]:
    return id(owner), name


@contextmanager
def _emptied(slots: Slots) -> Iterator[None]:
    """Empty attributes now, and after each forward pass of their module."""
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
