"""The items from which episodes are drawn: sorted by class, each with several modalities."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metafleet.episode import presence_key

Rows = Sequence[int] | npt.NDArray[np.int64]
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality of all items.

    Attributes:
        shape: shape of one decoded example.
        gather: row numbers -> float32 tensor [len(rows), *shape], a copy; zeros where absent.
        present: bool [items], True for rows that have the modality; None if all rows have it. If
            this is not None, examples also have the input ``presence_key``.
        is_text: whether values are bytes of UTF-8, padded with zeros.
        kind: a kind of ``metafleet.data.decoding``, such as "image" or "audio"; "" if the
            modality's name is the kind.
        is_text_features: whether values are features of texts. Such values cannot be searched for
            words.
    """

    shape: tuple[int, ...]
    gather: Callable[[Rows], Tensor]
    present: npt.NDArray[np.bool_] | None = None
    is_text: bool = False
    kind: str = ""
    is_text_features: bool = False


@dataclass(frozen=True, slots=True)
class ClassRows:
    """The rows of one class: [start, start + count) of every modality."""

    start: int
    count: int


class ItemSource:
    """What sources of classification episodes report about their items.

    Args:
        modalities: the modalities of an example, in the order of ``inputs``.
    """

    def __init__(self, modalities: Mapping[str, Modality]) -> None:
        self._modalities = dict(modalities)

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of one example in each modality, decoded to float32."""
        return {name: modality.shape for name, modality in self._modalities.items()}

    @property
    def texts(self) -> frozenset[str]:
        """Modalities whose examples are bytes of a text, padded with zeros."""
        return frozenset(name for name, modality in self._modalities.items() if modality.is_text)

    @property
    def kinds(self) -> Mapping[str, str]:
        """Modality -> its kind, for modalities that are not named after it."""
        kinds = {name: modality.kind or name for name, modality in self._modalities.items()}
        return {name: kind for name, kind in kinds.items() if kind != name}

    @property
    def target_dim(self) -> int:
        """Return 0, because targets are classes or labels."""
        return 0


def gather_rows(modalities: Mapping[str, Modality], rows: Rows) -> dict[str, Tensor]:
    """Return the inputs of items, with a mask for each modality that some items lack."""
    inputs = {name: modality.gather(rows) for name, modality in modalities.items()}
    for name, modality in modalities.items():
        if modality.present is not None:
            mask = torch.from_numpy(modality.present.take(rows))
            inputs[presence_key(name)] = mask.to(torch.float32)
    return inputs


def mean_example(modality: Modality, rows: Iterable[int]) -> Tensor:
    """Return the mean over the given rows that have the modality, computed in double precision.

    Returns:
        float32 in the shape of an example; zeros if no row has the modality.
    """
    present = modality.present
    chosen = [row for row in rows if present is None or present[row]]
    total = torch.zeros(modality.shape, dtype=torch.float64)
    for start in range(0, len(chosen), _ROWS_AT_ONCE):
        total += modality.gather(chosen[start : start + _ROWS_AT_ONCE]).double().sum(dim=0)
    return (total / max(len(chosen), 1)).float()
