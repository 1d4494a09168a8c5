"""The items from which episodes are drawn: sorted by class, each with several modalities."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metafleet.episode import META_TRAIN, presence_key
from metafleet.seeds import CounterRng

Rows = Sequence[int] | npt.NDArray[np.int64]
_ROWS_AT_ONCE = 1024
_VIEWS = "meta_train/view"
"""Domain of the random numbers that choose views."""


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality of all items.

    Attributes:
        shape: shape of one decoded example.
        gather: a function from row numbers to a new float32 tensor [len(rows), *shape]. Rows that
            lack the modality are zeros.
        present: bool [items], True for rows that have the modality; None if all rows have it. If
            ``present`` is not None, examples also have the input ``presence_key``.
        is_text: whether values are texts as bytes of UTF-8, padded with zeros.
        kind: a kind of ``metafleet.data.decoding``, such as "image" or "audio"; "" if the
            modality's name is the kind.
        is_text_features: whether values are features of texts. Features cannot be searched for
            words.
        views: number of views of each item; see ``EncoderChoice``.
        gather_views: for modalities with more than one view, a function from row numbers and view
            numbers, each >= 1, to a float32 tensor [len(rows), *shape].
    """

    shape: tuple[int, ...]
    gather: Callable[[Rows], Tensor]
    present: npt.NDArray[np.bool_] | None = None
    is_text: bool = False
    kind: str = ""
    is_text_features: bool = False
    views: int = 1
    gather_views: Callable[[Rows, Rows], Tensor] | None = None

    def read(self, rows: Rows, views: Rows | None = None) -> Tensor:
        """Return examples, float32 [len(rows), *shape]; of each row the given view, or view 0."""
        found = self.gather(rows)
        if views is not None and self.gather_views is not None:
            numbers = np.asarray(views)
            augmented = np.flatnonzero(numbers)
            found[augmented] = self.gather_views(np.asarray(rows)[augmented], numbers[augmented])
        return found


@dataclass(frozen=True, slots=True)
class ClassRows:
    """The rows of one class: [start, start + count) of every modality."""

    start: int
    count: int


class ItemSource:
    """Base class with the facts that sources of classification episodes report about their items.

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


def view_counts(modalities: Mapping[str, Modality], split: str) -> dict[str, int]:
    """Return modality -> number of its views, for modalities whose views are drawn.

    Views are drawn only for episodes of meta-training. All other episodes show view 0.
    """
    if split != META_TRAIN:
        return {}
    return {name: it.views for name, it in modalities.items() if it.views > 1}


def draw_views(counts: Mapping[str, int], n_items: int, rng: CounterRng) -> dict[str, Rows]:
    """Draw a view of each item of an episode.

    The draws are from a separate stream of random numbers. For each modality in turn, a view is
    drawn for each support item and then for each query item. The draws do not change which classes
    and items an episode has.

    Args:
        counts: the result of ``view_counts``.
        n_items: number of items of the episode.
        rng: the episode's address.

    Returns:
        Modality -> number of the view of each item.
    """
    if not counts:
        return {}
    own = rng.with_domain(_VIEWS)
    return {name: [own.integer(n) for _ in range(n_items)] for name, n in counts.items()}


def gather_rows(
    modalities: Mapping[str, Modality], rows: Rows, views: Mapping[str, Rows]
) -> dict[str, Tensor]:
    """Return the inputs of items, with a mask for each modality that some items lack.

    Args:
        modalities: the modalities of an example.
        rows: the items.
        views: modality -> the view of each item; items of other modalities are shown in view 0.
    """
    inputs = {name: modality.read(rows, views.get(name)) for name, modality in modalities.items()}
    for name, modality in modalities.items():
        if modality.present is not None:
            mask = torch.from_numpy(modality.present.take(rows))
            inputs[presence_key(name)] = mask.to(torch.float32)
    return inputs


def mean_example(modality: Modality, rows: Iterable[int]) -> Tensor:
    """Return the mean example, computed in double precision over the given rows.

    Rows that lack the modality are left out.

    Returns:
        float32 in the shape of an example; zeros if no row has the modality.
    """
    present = modality.present
    chosen = [row for row in rows if present is None or present[row]]
    total = torch.zeros(modality.shape, dtype=torch.float64)
    for start in range(0, len(chosen), _ROWS_AT_ONCE):
        total += modality.gather(chosen[start : start + _ROWS_AT_ONCE]).double().sum(dim=0)
    return (total / max(len(chosen), 1)).float()
