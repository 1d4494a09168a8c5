"""What a learner's pure functions say on the side: support losses, batch-norm statistics."""

from collections.abc import Mapping, Sequence

from torch import Tensor

Record = dict[str, list[Tensor]]
"""Key -> values in the order they were noted."""


class Notes:
    """Tensors noted while an episode is computed, by key and in order.

    A function that is differentiated or mapped by ``torch.func`` must return whatever leaves it,
    so whoever calls such a function takes the notes out of it and adds them again outside.
    """

    def __init__(self) -> None:
        self._record: Record = {}

    def add(self, key: str, value: Tensor) -> None:
        """Note ``value``; nothing is differentiated through it."""
        self._record.setdefault(key, []).append(value.detach())

    def take(self) -> Record:
        """Return all notes and forget them."""
        record, self._record = self._record, {}
        return record

    def put(self, record: Mapping[str, Sequence[Tensor]]) -> None:
        """Add the notes of ``record`` after those there are."""
        for key, values in record.items():
            self._record.setdefault(key, []).extend(values)

    def values(self, key: str) -> Sequence[Tensor]:
        """Return what was noted under ``key``, first to last."""
        return self._record.get(key, [])

    def keys(self) -> Sequence[str]:
        """Return the keys in order of their first note."""
        return tuple(self._record)
