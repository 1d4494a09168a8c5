"""Slices of data sets: data sets that have some of the classes of another one.

`benchmarks.warm_start` needs many data sets. A slice takes the classes of some groups, such as
scripts, alphabets or domains, and divides them into splits.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from metafleet.contracts.settings import Settings
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.registry import open_data
from metafleet.episode import META_TEST, META_TRAIN, META_VAL

SLICE: Final = "benchmarks.slices:Slice"
_SHARES: Final = {META_TRAIN: 0.5, META_VAL: 0.25, META_TEST: 0.25}


@dataclass(frozen=True)
class SliceOptions:
    """Options of ``Slice``.

    Attributes:
        of: name and options of the data set.
        groups: groups of classes to take.
        seed: seed of the division into splits.
    """

    of: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    seed: int = 0


class Slice:
    """The classes of some groups of a data set with one modality."""

    Options = SliceOptions
    version = "1"

    def __init__(self, options: SliceOptions) -> None:
        data = open_data(options.of, Settings.load().data_dir).open_classes()
        assert data is not None  # a slice is of stored classes
        self._data: ClassData = data
        (self._modality,) = data.modalities
        info = data.prepared.arrays[self._modality]
        is_ink = info.kind == "image" and len(info.shape) == 3
        self._shape = (1, *info.shape[1:]) if is_ink else info.shape[1:]
        self._is_features, self._kind = bool(info.encoder), info.kind
        self._splits = _divided(data, options)

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """The modality, by its kind; features of a pretrained encoder are plain numbers."""
        return {"features" if self._is_features else self._kind: self._shape}

    def classes(self, split: str) -> Sequence[str]:
        """Return the classes of a split."""
        return self._splits[split]

    def load_items(self, class_name: str) -> npt.NDArray[Any]:
        """Return the items of a class that have the modality."""
        where = self._data.rows()[class_name]
        rows = slice(where.start, where.start + where.count)
        items = np.array(self._data.prepared.load(self._modality)[rows])
        mask = self._data.prepared.load_mask(self._modality)
        if mask is not None and mask[rows].any():
            items = items[mask[rows]]
        items = items.reshape(len(items), *self._shape)
        return items if items.dtype == np.uint8 else items.astype(np.float32)


def _divided(data: ClassData, options: SliceOptions) -> dict[str, list[str]]:
    wanted = [info.name for info in data.prepared.classes if info.group in options.groups]
    random.Random(options.seed).shuffle(wanted)
    splits, start = {}, 0.0
    for split, share in _SHARES.items():
        end = start + share * len(wanted)
        splits[split] = sorted(wanted[round(start) : round(end)])
        start = end
    return splits
