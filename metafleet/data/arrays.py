"""From prepared arrays to float32 tensors, and from class lists to an episode source."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from metafleet.data.base import DataSummary, ModalitySummary, SplitSummary
from metafleet.data.prepared import Array, PreparedData
from metafleet.sampling import ClassEpisodeSource, ClassRows, Modality

Splits = Mapping[str, Sequence[str]]
"""Split -> names of its classes, in the order of sampling."""


def open_classes(
    prepared: PreparedData, modalities: Sequence[str], splits: Splits, *, name: str
) -> ClassEpisodeSource:
    """Make an episode source of the chosen modalities."""
    rows = {}
    start = 0
    for info in prepared.classes:
        rows[info.name] = ClassRows(start, info.n_items)
        start += info.n_items
    return ClassEpisodeSource(
        {modality: _modality(prepared.load(modality)) for modality in modalities},
        {split: [rows[class_name] for class_name in names] for split, names in splits.items()},
        name=name,
    )


def split_sha256(splits: Splits) -> str:
    """Hash which classes each split has, in order."""
    text = "".join(f"{split}\0{name}\n" for split in sorted(splits) for name in splits[split])
    return hashlib.sha256(text.encode()).hexdigest()


def data_digest(prepared: PreparedData, modalities: Sequence[str], splits: Splits) -> str:
    """Hash the chosen modalities' arrays, the classes and the split: what a run depends on.

    Costs no reading of arrays: their hashes are in the index.
    """
    facts = {
        "arrays": {modality: prepared.arrays[modality].sha256 for modality in modalities},
        "classes": [[info.name, info.n_items] for info in prepared.classes],
        "split": split_sha256(splits),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def summarise_classes(
    prepared: PreparedData, modalities: Sequence[str], splits: Splits, *, about: tuple[str, ...]
) -> DataSummary:
    """Count classes and items; ``about`` is (name, licence, origin)."""
    name, licence, origin = about
    return DataSummary(
        name=name,
        digest=data_digest(prepared, modalities, splits),
        split_sha256=split_sha256(splits),
        location=prepared.path,
        licence=licence,
        origin=origin,
        splits={split: _split_summary(prepared, names) for split, names in splits.items()},
        modalities={
            modality: ModalitySummary(_example_shape(info.dtype, info.shape), info.n_present)
            for modality, info in prepared.arrays.items()
        },
        facts=prepared.facts,
    )


def _split_summary(prepared: PreparedData, names: Sequence[str]) -> SplitSummary:
    wanted = set(names)
    classes = [info for info in prepared.classes if info.name in wanted]
    counts = [info.n_items for info in classes]
    groups: dict[str, int] = {}
    for info in classes:
        groups[info.group] = groups.get(info.group, 0) + 1
    return SplitSummary(
        classes=len(classes),
        items=sum(counts),
        fewest_items=min(counts, default=0),
        most_items=max(counts, default=0),
        groups=groups,
    )


def _example_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape[1:]) if dtype == "uint8" else tuple(shape[1:])


def _modality(array: Array) -> Modality:
    shape = _example_shape(array.dtype.name, array.shape)
    return Modality(shape, _gather_image(array) if array.dtype == np.uint8 else _gather(array))


def _gather_image(array: Array) -> Callable[[Sequence[int]], Tensor]:
    """Return grey values [n, height, width] as [n, 1, height, width] in [0, 1]."""

    def gather(rows: Sequence[int]) -> Tensor:
        return torch.from_numpy(array[rows]).unsqueeze(1).to(torch.float32).div_(255)

    return gather


def _gather(array: Array) -> Callable[[Sequence[int]], Tensor]:
    def gather(rows: Sequence[int]) -> Tensor:
        return torch.from_numpy(array[rows]).to(torch.float32)

    return gather
