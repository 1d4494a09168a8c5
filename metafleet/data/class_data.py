"""From prepared arrays to float32 tensors, and from class lists to an episode source."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metafleet.data.prepared import Array, PreparedData
from metafleet.data.summary import DataSummary, ModalitySummary, SplitSummary
from metafleet.sampling import ClassEpisodeSource, ClassRows, Modality

Splits = Mapping[str, Sequence[str]]
"""Split -> names of its classes, in the order of sampling."""


@dataclass(frozen=True, slots=True)
class ClassData:
    """Prepared data together with what the options chose of them.

    Attributes:
        name: the data set's name, for messages.
        prepared: the arrays.
        splits: split -> names of its classes, in the order of sampling.
        modalities: the chosen ones, in the order of the inputs.
    """

    name: str
    prepared: PreparedData
    splits: Splits
    modalities: tuple[str, ...]

    def rows(self) -> dict[str, ClassRows]:
        """Return class -> its rows of every array."""
        rows = {}
        start = 0
        for info in self.prepared.classes:
            rows[info.name] = ClassRows(start, info.n_items)
            start += info.n_items
        return rows

    def open_source(self) -> ClassEpisodeSource:
        """Make an episode source."""
        rows = self.rows()
        return ClassEpisodeSource(
            {modality: _modality(self.prepared.load(modality)) for modality in self.modalities},
            {split: [rows[class_name] for class_name in c] for split, c in self.splits.items()},
            name=self.name,
        )

    def split_sha256(self) -> str:
        """Hash which classes each split has, in order."""
        names = [(split, name) for split in sorted(self.splits) for name in self.splits[split]]
        text = "".join(f"{split}\0{name}\n" for split, name in names)
        return hashlib.sha256(text.encode()).hexdigest()

    def digest(self) -> str:
        """Hash the chosen modalities' arrays, the classes and the split: what a run depends on.

        Costs no reading of arrays: their hashes are in the index.
        """
        arrays = self.prepared.arrays
        facts = {
            "arrays": {modality: arrays[modality].sha256 for modality in self.modalities},
            "classes": [[info.name, info.n_items] for info in self.prepared.classes],
            "split": self.split_sha256(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def summarise(self, *, licence: str, origin: str) -> DataSummary:
        """Count classes and items."""
        return DataSummary(
            name=self.name,
            digest=self.digest(),
            split_sha256=self.split_sha256(),
            location=self.prepared.path,
            licence=licence,
            origin=origin,
            splits={s: _split_summary(self.prepared, names) for s, names in self.splits.items()},
            modalities={
                modality: ModalitySummary(_example_shape(info.dtype, info.shape), info.n_present)
                for modality, info in self.prepared.arrays.items()
            },
            facts=self.prepared.facts,
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
