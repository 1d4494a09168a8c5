"""N-way episodes from items that have several labels each.

An episode depends only on its address, a ``CounterRng``. The order of draws is part of the format:

1. ``rng.sample`` draws at most ``2 * n_way`` different labels. It draws from the labels of the
   split that have at least ``k_shot + n_query`` items.
2. For each drawn label in turn, until ``n_way`` labels are filled, ``rng.sample`` draws items that
   have the label. The label gets the first ``k_shot + n_query`` of these items that no earlier
   label got. The first ``k_shot`` are support examples, the rest are queries. A label with too few
   items left is skipped and gets no items.

Targets are multi-hot over the episode's labels. The target of an item that was drawn for one label
is also 1 for the item's other labels. A label therefore has *at least* ``k_shot`` support and
``n_query`` query items. Labels can share items, so fewer than ``n_way`` labels may be filled. The
draw then starts again.
"""

import bisect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metafleet.episode import META_TRAIN, Episode, EpisodeShape, ExampleSet
from metafleet.episodes.items import (
    ClassRows,
    ItemSource,
    Modality,
    draw_views,
    gather_rows,
    mean_example,
    view_counts,
)
from metafleet.episodes.sampled_rows import SampledRows
from metafleet.episodes.source import check_counts
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

_ATTEMPTS = 100
_TRIED = 20


class LabelSets:
    """The labels of items that are sorted by their set of labels.

    Args:
        sets: for each different set of labels, the rows of its items and the labels. The rows of
            one set are consecutive, and the sets are in the order of their rows.
    """

    def __init__(self, sets: Sequence[tuple[ClassRows, frozenset[str]]]) -> None:
        self._starts = [rows.start for rows, _ in sets]
        self._labels = [labels for _, labels in sets]
        found: dict[str, list[int]] = {}
        for rows, labels in sets:
            for label in labels:
                found.setdefault(label, []).extend(range(rows.start, rows.start + rows.count))
        self._rows = found

    def labels_of(self, row: int) -> frozenset[str]:
        """Return the labels of an item."""
        return self._labels[bisect.bisect_right(self._starts, row) - 1]

    def rows_of(self, label: str) -> Sequence[int]:
        """Return the items that have a label, ascending."""
        return self._rows.get(label, ())


class LabelEpisodeSource(ItemSource):
    """Episodes of items that may have several labels; targets are float [n, n_way], 0 or 1.

    Args:
        modalities: the modalities of an example, in the order of ``inputs``.
        splits: split -> its labels. The order of the labels must never change.
        sets: split -> the items of the split with their labels.
        name: the data set's name, for messages.
        label_separator: the text that separates the labels of an item.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        splits: Mapping[str, Sequence[str]],
        sets: Mapping[str, LabelSets],
        *,
        name: str,
        label_separator: str,
    ) -> None:
        super().__init__(modalities)
        self._splits = {split: tuple(labels) for split, labels in splits.items()}
        self._sets = dict(sets)
        self._name = name
        self.label_separator = label_separator

    def n_classes(self, split: str) -> int:
        """Return the number of labels in ``split``."""
        return len(self._labels(split))

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Check, by drawing some, that ``split`` can fill episodes of this shape."""
        check_counts(shape)
        labels = self._labels(split)
        if not shape.is_ordinary:
            shown = ", ".join(f"{name}={value!r}" for name, value in shape.special().items())
            raise ConfigError(
                f"{shown}, but data set {self._name!r} has several labels an item, for which "
                "episodes have a size only; remove it"
            )
        if shape.n_way < 2:
            raise ConfigError(f"n_way={shape.n_way}; expected 2 labels or more per episode")
        if shape.n_way > len(labels):
            raise ConfigError(
                f"n_way={shape.n_way} but split {split!r} of {self._name!r} has {len(labels)} "
                "labels; lower n_way, or give this split more labels by data.split_fractions (of "
                "imported data, by --fractions of `data import`)"
            )
        eligible = self._eligible(split, shape)
        if shape.n_way > len(eligible):
            need = shape.k_shot + shape.n_query
            small = next(label for label in labels if label not in eligible)
            raise ConfigError(
                f"k_shot + n_query = {need} items for each of n_way={shape.n_way} labels, but only "
                f"{len(eligible)} labels of split {split!r} of {self._name!r} have so many "
                f"({small!r} has {len(self._sets[split].rows_of(small))}); lower n_query, k_shot "
                "or n_way"
            )
        for index in range(_TRIED):
            self._draw(split, shape, CounterRng(0, "check", 0, index))

    def training_mean(self, modality: str) -> Tensor:
        """Return the mean example over the items of meta-training that have the modality."""
        labels = self._splits.get(META_TRAIN, ())
        rows = {row for label in labels for row in self._sets[META_TRAIN].rows_of(label)}
        return mean_example(self._modalities[modality], sorted(rows))

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses, support and query in the order of its labels."""
        labels, support, query = self._draw(split, shape, rng)
        n_support, rows = len(support), support + query
        views = draw_views(view_counts(self._modalities, split), len(rows), rng)
        inputs = gather_rows(self._modalities, rows, views)
        return Episode(
            support=ExampleSet(
                {name: values[:n_support] for name, values in inputs.items()},
                self._targets(split, labels, support),
            ),
            query=ExampleSet(
                {name: values[n_support:] for name, values in inputs.items()},
                self._targets(split, labels, query),
            ),
            n_way=shape.n_way,
        )

    def sample_rows(self, split: str, shape: EpisodeShape, rng: CounterRng) -> SampledRows:
        """Return the labels and rows of the episode that ``sample`` draws for the same address."""
        labels, support, query = self._draw(split, shape, rng)
        return SampledRows(tuple(labels), tuple(support), tuple(query))

    def _draw(
        self, split: str, shape: EpisodeShape, rng: CounterRng
    ) -> tuple[list[str], list[int], list[int]]:
        """Return the labels, the support rows and the query rows of an episode.

        Raises:
            ConfigError: fewer than ``n_way`` labels could be filled, even after several draws.
        """
        sets, eligible = self._sets[split], self._eligible(split, shape)
        need = shape.k_shot + shape.n_query
        for _ in range(_ATTEMPTS):
            labels: list[str] = []
            support: list[int] = []
            query: list[int] = []
            taken: set[int] = set()
            for place in rng.sample(len(eligible), min(len(eligible), 2 * shape.n_way)):
                rows = sets.rows_of(eligible[place])
                # enough draws to find ``need`` others even if every taken item has this label
                drawn = rng.sample(len(rows), min(len(rows), need + len(taken)))
                free = [rows[i] for i in drawn if rows[i] not in taken][:need]
                if len(free) < need:
                    continue
                labels.append(eligible[place])
                support += free[: shape.k_shot]
                query += free[shape.k_shot :]
                taken.update(free)
                if len(labels) == shape.n_way:
                    return labels, support, query
        raise ConfigError(
            f"split {split!r} of {self._name!r} has no {shape.n_way} labels with {need} items of "
            "their own each: the same items have most labels; lower n_way, n_query or k_shot"
        )

    def _targets(self, split: str, labels: Sequence[str], rows: Sequence[int]) -> Tensor:
        having = (self._sets[split].labels_of(row) for row in rows)
        return torch.tensor([[float(label in found) for label in labels] for found in having])

    def _labels(self, split: str) -> tuple[str, ...]:
        if split not in self._splits:
            known = ", ".join(self._splits)
            raise ConfigError(
                f"data set {self._name!r} has no split {split!r}; its splits are: {known}"
            )
        return self._splits[split]

    def _eligible(self, split: str, shape: EpisodeShape) -> list[str]:
        need, sets = shape.k_shot + shape.n_query, self._sets[split]
        return [label for label in self._labels(split) if len(sets.rows_of(label)) >= need]
