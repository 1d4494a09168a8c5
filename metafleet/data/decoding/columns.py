"""Decode whole columns of items to arrays on disk, in parallel.

The position and bytes of a row depend only on its item. They do not depend on the process that
decoded the item, or on the order of decoding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array, Decoder
from metafleet.data.decoding.features import encoder_of, reading_options
from metafleet.data.decoding.pool import Cell, decode_cells
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.row_file import RowFile
from metafleet.data.decoding.source import Source
from metafleet.data.summary import Progress, no_progress
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.choice import PLAIN

_LATER = {
    "range": "dtype",
    "crop_share": 1.0,
    "resample": "bilinear",
    "form": "log_mel",
    "place": "start",
    **PLAIN,
}
"""Options that were added later -> the value that keeps the earlier behaviour."""


@dataclass(frozen=True, slots=True)
class Column:
    """One modality of every item.

    Attributes:
        modality: name of the modality.
        kind: kind of the decoder.
        options: options object of the decoder.
        sources: source of each item's bytes; None for an item that lacks the modality.
    """

    modality: str
    kind: str
    options: Any
    sources: Sequence[Source | None]

    @property
    def decoder(self) -> Decoder:
        """The decoder of the column's kind."""
        return get_decoder(self.kind)

    @property
    def reading(self) -> Any:
        """The options with which items are decoded, before they are encoded."""
        return reading_options(self.kind, self.options)

    @property
    def encoder(self) -> PretrainedEncoder | None:
        """The pretrained encoder of the items; None if models get the items themselves."""
        return encoder_of(self.kind, self.options)

    def recipe(self) -> dict[str, Any]:
        """Return JSON values that describe the decoding, as part of the key of prepared data."""
        options = {
            name: value
            for name, value in asdict(self.options).items()
            if name not in _LATER or value != _LATER[name]
        }
        recipe = {"kind": self.kind, "version": self.decoder.version, "options": options}
        return recipe if self.encoder is None else recipe | {"encoder": self.encoder.identity()}


@dataclass(frozen=True, slots=True)
class DecodeProblem:
    """An item that could not be decoded.

    Attributes:
        modality: modality of the column.
        item: index of the item.
        why: reason for the failure, in one line.
    """

    modality: str
    item: int
    why: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Decoded columns.

    Attributes:
        arrays: modality -> memory-mapped array [items, *shape], or [items, features] if the
            modality has an encoder. Absent and undecodable items are zeros.
        masks: modality -> bool [items], True where decoded.
        problems: problems, sorted by item and then by column.
        encoders: modality -> identity of the encoder, for arrays that hold features.
        views: modality -> features of views 1, 2, ... of the items, [items, views - 1, features].
        notes: notes on the encoding of items, one line each.
    """

    arrays: Mapping[str, Array]
    masks: Mapping[str, Array]
    problems: tuple[DecodeProblem, ...]
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    views: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def decode_columns(
    columns: Sequence[Column],
    folder: Path,
    *,
    progress: Progress = no_progress,
    n_processes: int | None = None,
) -> Decoded:
    """Decode every item of every column to ``folder``/<modality>.npy.

    Args:
        columns: columns with one source per item.
        folder: an existing folder. Its files can be deleted once the arrays are no longer used.
        progress: called with the number of decoded cells and the number of all cells.
        n_processes: number of decoding processes. 0 decodes in this process. None uses one per
            core, or fewer if there are few items.

    Raises:
        DataMissingError: a library is not installed.
        DataError: the arrays cannot be written.
    """
    for column in columns:
        column.decoder.check(column.reading)
    files = [_file(folder, column) for column in columns]
    cells = [
        Cell(number, item, column.decoder, column.reading, source, file)
        for number, (column, file) in enumerate(zip(columns, files, strict=True))
        for item, source in enumerate(column.sources)
        if source is not None
    ]
    failures: list[tuple[int, int, str]] = []  # item, column, why
    try:
        for done, (cell, why) in enumerate(decode_cells(cells, n_processes), start=1):
            if why is not None:
                failures.append((cell.item, cell.column, why))
            if done % 64 == 0 or done == len(cells):
                progress("decoding", done, len(cells))
    finally:
        for file in files:
            file.close()
    problems = tuple(
        DecodeProblem(columns[column].modality, item, why) for item, column, why in sorted(failures)
    )
    masks = {c.modality: np.array([s is not None for s in c.sources], np.bool_) for c in columns}
    for problem in problems:
        masks[problem.modality][problem.item] = False
    arrays = {c.modality: file.load() for c, file in zip(columns, files, strict=True)}
    return Decoded(arrays, masks, problems)


def _file(folder: Path, column: Column) -> RowFile:
    dtype, shape = column.decoder.example(column.reading)
    return RowFile(folder / f"{column.modality}.npy", dtype, (len(column.sources), *shape))
