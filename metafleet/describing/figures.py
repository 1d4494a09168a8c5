"""Counts and sizes of a data set, from its summary."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from metafleet.data.summary import DataSummary, SplitSummary
from metafleet.episode import SPLITS
from metafleet.episodes.source import EpisodeSource

KIND: Final = "kind."
"""Start of the names of figures that are 1 for each kind of data that the data set has."""


def figures_of(summary: DataSummary, source: EpisodeSource) -> dict[str, float]:
    """Return the figures of a data set.

    - "classes.SPLIT": number of classes, for each split that is a list of classes.
    - "items": number of items. "items_a_class.min", ".median" and ".max": items of a class.
    - "evenness": entropy of the sizes of classes, divided by the logarithm of their number: 1 if
      all classes have as many items.
    - "modalities": number of modalities. "numbers": numbers in one example.
    - "missing": share of the values "item has modality" that are false, in [0, 1].
    - "targets": values to predict for each example; 0 for classification.
    - "kind.KIND": 1 for each kind of data.

    Args:
        summary: the summary of the data.
        source: their episodes, which know the chosen modalities.
    """
    found = dict(_of_classes(summary))
    shapes = source.modalities
    known = {name: about.kind for name, about in summary.modalities.items()}
    kinds = {known.get(name, source.kinds.get(name, name)) for name in shapes}
    found["modalities"] = float(len(shapes))
    found["numbers"] = float(sum(math.prod(shape) for shape in shapes.values()))
    found["missing"] = _missing(summary.splits, tuple(shapes))
    found["targets"] = float(source.target_dim)
    return found | {f"{KIND}{kind}": 1.0 for kind in sorted(kinds)}


def evenness(sizes: Sequence[int]) -> float:
    """Return the normalised entropy of the sizes of classes, in [0, 1]; 1 for a single class."""
    filled = [size for size in sizes if size > 0]
    if len(filled) < 2:
        return 1.0
    total = sum(filled)
    entropy = -math.fsum(size / total * math.log(size / total) for size in filled)
    return entropy / math.log(len(filled))


def _of_classes(summary: DataSummary) -> Iterator[tuple[str, float]]:
    sizes: list[int] = []
    n_items = 0
    for split in SPLITS:
        parts = [s for name, s in summary.splits.items() if name.rpartition(".")[2] == split]
        if not parts:
            continue
        yield f"classes.{split}", float(sum(part.classes for part in parts))
        n_items += sum(part.items for part in parts)
        sizes += [n for part in parts for n in part.class_items.values()]
    if not sizes:
        return
    yield "items", float(n_items)
    yield "items_a_class.min", float(min(sizes))
    yield "items_a_class.median", float(statistics.median(sizes))
    yield "items_a_class.max", float(max(sizes))
    yield "evenness", evenness(sizes)


def _missing(splits: Mapping[str, SplitSummary], chosen: Sequence[str]) -> float:
    """Return the share of values that items lack, over the chosen modalities."""
    wanted = sum(each.items for each in splits.values()) * len(chosen)
    gaps = sum(
        each.items - n for each in splits.values() for m, n in each.present.items() if m in chosen
    )
    return gaps / wanted if wanted else 0.0
