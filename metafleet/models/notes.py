"""Side outputs of a learner's pure functions: support losses and batch norm statistics."""

from collections.abc import Mapping, Sequence

from torch import Tensor

Record = dict[str, list[Tensor]]
"""Key -> values in the order they were noted."""


class Notes:
    """Tensors that are noted while an episode is computed, by key and in order.

    If ``torch.func`` differentiates or maps a function, the function must return every tensor that
    is used outside. Such a function therefore calls ``take`` and returns the notes. Its caller then
    adds them with ``put``.
    """

    def __init__(self) -> None:
        self._record: Record = {}

    def add(self, key: str, value: Tensor) -> None:
        """Add ``value``, detached from the graph."""
        self._record.setdefault(key, []).append(value.detach())

    def take(self) -> Record:
        """Return all notes and clear them."""
        record, self._record = self._record, {}
        return record

    def put(self, record: Mapping[str, Sequence[Tensor]]) -> None:
        """Append the notes of ``record``."""
        for key, values in record.items():
            self._record.setdefault(key, []).extend(values)

    def values(self, key: str) -> Sequence[Tensor]:
        """Return the values noted under ``key``, first to last."""
        return self._record.get(key, [])

    def keys(self) -> Sequence[str]:
        """Return the keys in the order of their first notes."""
        return tuple(self._record)
