"""Convert prepared arrays to float32 tensors, and class lists to an episode source."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metafleet.data.decoding.registry import get_decoder, has_decoder
from metafleet.data.label_text import labels_in
from metafleet.data.prepared.label_sets import label_sets, labels_of
from metafleet.data.prepared.prepared import Array, ArrayInfo, PreparedData
from metafleet.data.summary import DataSummary, ModalitySummary, SplitSummary
from metafleet.digests import json_sha256
from metafleet.encoders.identity import describe_identity
from metafleet.episode import CLASS_TEXT
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.labels import LabelEpisodeSource
from metafleet.problem import FEATURES

_NOUNS = ("class", "classes", "items")
Rows = npt.NDArray[np.int64]
Splits = Mapping[str, Sequence[str]]
"""Split -> names of its classes, in the order of sampling."""


@dataclass(frozen=True, slots=True)
class ClassData:
    """Prepared data with the splits and modalities that the options select.

    Items that have none of the chosen modalities, according to the prepared masks, are left out.

    Attributes:
        name: the data set's name, for messages.
        prepared: the arrays.
        splits: split -> names of its classes, in the order of sampling.
        modalities: the chosen modalities, in the order of the inputs.
        version: the version of the items, which a user's class declares. The version is part of the
            digest.
        label_separator: text between the labels of a class that is a set of labels; "" if an item
            has one class.
    """

    name: str
    prepared: PreparedData
    splits: Splits
    modalities: tuple[str, ...]
    version: str = ""
    label_separator: str = ""

    def rows(self) -> dict[str, ClassRows]:
        """Return class -> its rows in every prepared array."""
        rows = {}
        start = 0
        for info in self.prepared.classes:
            rows[info.name] = ClassRows(start, info.n_items)
            start += info.n_items
        return rows

    def open_source(
        self, *, more_classes: Callable[[int], str] | None = None
    ) -> ClassEpisodeSource | LabelEpisodeSource:
        """Return an episode source; ``more_classes(n_way)`` is advice for splits with too few."""
        kept = self._kept()
        rows = self._kept_rows(kept)
        modalities = {modality: self._modality(modality, kept) for modality in self.modalities}
        if self.label_separator:
            return LabelEpisodeSource(
                modalities,
                {split: labels_of(c, self.label_separator) for split, c in self.splits.items()},
                {s: label_sets(c, rows, self.label_separator) for s, c in self.splits.items()},
                name=self.name,
                label_separator=self.label_separator,
            )
        return ClassEpisodeSource(
            modalities,
            {split: [rows[class_name] for class_name in c] for split, c in self.splits.items()},
            name=self.name,
            class_names=self.splits,
            class_texts=self._class_texts(),
            more_classes=more_classes,
        )

    def stored_rows(self, rows: Sequence[int]) -> list[int]:
        """Return the rows in the prepared arrays of items that ``open_source`` numbers ``rows``."""
        kept = self._kept()
        return list(rows) if kept is None else [int(row) for row in kept.take(rows)]

    def _class_texts(self) -> dict[str, Tensor] | None:
        """Return class -> features of its name, [d]; None if names are not encoded."""
        rows = self.prepared.load_class_text()
        if rows is None:
            return None
        names = [info.name for info in self.prepared.classes]
        return dict(zip(names, torch.from_numpy(np.array(rows)), strict=True))

    def _kept(self) -> Rows | None:
        """Return the sorted rows of items that have a chosen modality; None for all rows."""
        if not all(modality in self.prepared.masks for modality in self.modalities):
            return None
        masks = [self.prepared.load_mask(modality) for modality in self.modalities]
        return np.flatnonzero(np.any([mask for mask in masks if mask is not None], axis=0))

    def _kept_rows(self, kept: Rows | None) -> dict[str, ClassRows]:
        """Return class -> its rows, numbered within the kept rows."""
        if kept is None:
            return self.rows()
        return {name: _within(kept, where) for name, where in self.rows().items()}

    def _modality(self, modality: str, kept: Rows | None) -> Modality:
        array, info = self.prepared.load(modality), self.prepared.arrays[modality]
        mask = self.prepared.load_mask(modality)
        if mask is not None and kept is not None:
            mask = mask[kept]
        if mask is not None and mask.all():
            mask = None
        is_text = has_decoder(info.kind) and get_decoder(info.kind).is_text
        is_bytes = info.dtype == "uint8"
        views = self.prepared.load_views(modality)
        return Modality(
            example_shape(info),
            _gather(array, info.kind, kept),
            mask,
            is_text=is_text and is_bytes,
            is_text_features=is_text and not is_bytes,
            kind=FEATURES if info.encoder else info.kind,
            views=1 if views is None else 1 + views.shape[1],
            gather_views=None if views is None else _gather_views(views, kept),
        )

    def split_sha256(self) -> str:
        """Return a hash of the classes of each split, in order."""
        names = [(split, name) for split in sorted(self.splits) for name in self.splits[split]]
        text = "".join(f"{split}\0{name}\n" for split, name in names)
        return hashlib.sha256(text.encode()).hexdigest()

    def digest(self) -> str:
        """Return a hash of everything a run depends on: chosen arrays, classes and split.

        This reads no arrays, because their hashes are in the index.
        """
        arrays, names = self.prepared.arrays, self.prepared.class_text
        masks = {
            m: self.prepared.masks[m].sha256 for m in self.modalities if m in self.prepared.masks
        }
        views = {
            m: self.prepared.views[m].sha256 for m in self.modalities if m in self.prepared.views
        }
        facts = {
            "arrays": {modality: arrays[modality].sha256 for modality in self.modalities},
            **({"masks": masks} if masks else {}),
            **({"views": views} if views else {}),
            **({CLASS_TEXT: names.sha256} if names else {}),
            **({"version": self.version} if self.version else {}),
            **({"label_separator": self.label_separator} if self.label_separator else {}),
            "classes": [[info.name, info.n_items] for info in self.prepared.classes],
            "split": self.split_sha256(),
        }
        return json_sha256(facts)

    def summarise(self, *, licence: str, origin: str) -> DataSummary:
        """Return a summary; the splits count only items that episodes can draw."""
        kept = self._kept()
        return DataSummary(
            name=self.name,
            digest=self.digest(),
            split_sha256=self.split_sha256(),
            location=self.prepared.path,
            licence=licence,
            origin=origin,
            splits={
                split: self._summarise_split(names, kept) for split, names in self.splits.items()
            },
            modalities={
                modality: ModalitySummary(example_shape(info), info.n_present, info.kind)
                for modality, info in self.prepared.arrays.items()
            },
            facts={
                **self.prepared.facts,
                **{
                    f"encoder of {modality}": describe_identity(identity)
                    for modality, identity in self.prepared.encoders.items()
                },
                **{
                    f"views of {modality}": str(1 + info.shape[1])
                    for modality, info in self.prepared.views.items()
                },
            },
            nouns=("label", "labels", "items") if self.label_separator else _NOUNS,
        )

    def _summarise_split(self, names: Sequence[str], kept: Rows | None) -> SplitSummary:
        group_of = {info.name: info.group for info in self.prepared.classes}
        rows = self._kept_rows(kept)
        counts = {name: rows[name].count for name in names}
        n_items = sum(counts.values())
        if self.label_separator:
            counts = _count_labels(counts, self.label_separator)
        return SplitSummary(
            classes=len(counts),
            items=n_items,
            fewest_items=min(counts.values(), default=0),
            most_items=max(counts.values(), default=0),
            groups=dict(Counter(group_of[name] for name in names)),
            present={
                modality: sum(
                    int(mask[rows[name].start : rows[name].start + rows[name].count].sum())
                    for name in names
                )
                for modality, mask in self._masks(kept).items()
            },
            class_items=counts,
        )

    def _masks(self, kept: Rows | None) -> dict[str, npt.NDArray[np.bool_]]:
        """Return modality -> mask over the kept rows, for modalities that some items lack."""
        found = {modality: self.prepared.load_mask(modality) for modality in self.prepared.masks}
        whole = {modality: mask for modality, mask in found.items() if mask is not None}
        return whole if kept is None else {name: mask[kept] for name, mask in whole.items()}


def example_shape(info: ArrayInfo) -> tuple[int, ...]:
    """Return the shape of one example as models get it: images without channels get one."""
    return (1, *info.shape[1:]) if is_ink(info.kind, info.shape) else info.shape[1:]


def is_ink(kind: str, shape: Sequence[int]) -> bool:
    """Return whether an array holds pictures without a channel axis, where ink is 1 and paper is 0.

    If a built-in data set does not come as one picture per file, it is stored this way.
    """
    return len(shape) == 3 and has_decoder(kind) and get_decoder(kind).is_picture


def _count_labels(counts: Mapping[str, int], separator: str) -> dict[str, int]:
    """Return label -> number of items that have it."""
    found: Counter[str] = Counter()
    for text, n in counts.items():
        found.update(dict.fromkeys(labels_in(text, separator), n))
    return dict(sorted(found.items()))


def _within(kept: Rows, rows: ClassRows) -> ClassRows:
    """Renumber a class's rows to positions in ``kept``."""
    start, end = np.searchsorted(kept, [rows.start, rows.start + rows.count])
    return ClassRows(int(start), int(end - start))


def _gather(array: Array, kind: str, kept: Rows | None) -> Callable[[Sequence[int] | Rows], Tensor]:
    """Return a function that reads rows as float32: pixels in [0, 1], other values as stored."""
    is_grey = is_ink(kind, array.shape)
    is_pixels = array.dtype == np.uint8 and has_decoder(kind) and get_decoder(kind).is_pixels

    def gather(rows: Sequence[int] | Rows) -> Tensor:
        chosen = rows if kept is None else kept.take(rows)
        values = torch.from_numpy(array.take(chosen, axis=0))  # faster than array[chosen]
        if is_grey:
            values = values.unsqueeze(1)
        values = values.to(torch.float32)
        return values.div_(255) if is_pixels else values

    return gather


def _gather_views(
    array: Array, kept: Rows | None
) -> Callable[[Sequence[int] | Rows, Sequence[int] | Rows], Tensor]:
    """Return a function that reads views 1, 2, ... of rows as float32, given rows and numbers."""

    def gather(rows: Sequence[int] | Rows, numbers: Sequence[int] | Rows) -> Tensor:
        chosen = np.asarray(rows) if kept is None else kept.take(rows)
        return torch.from_numpy(array[chosen, np.asarray(numbers) - 1]).to(torch.float32)

    return gather
