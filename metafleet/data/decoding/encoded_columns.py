"""Replace the decoded items of columns by the features of their pretrained encoders."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.columns import Column, Decoded, decode_columns
from metafleet.data.decoding.features import check_encoder, encode_column, features_folder
from metafleet.data.decoding.row_file import RowFile
from metafleet.data.decoding.views import view_rng
from metafleet.data.summary import Progress, no_progress
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.choice import EncoderName
from metafleet.encoders.store import item_key

_ROWS_TOLD = 64
"""Views that are drawn between two reports of progress."""


def prepare_columns(
    columns: Sequence[Column], scratch: Path, *, progress: Progress = no_progress
) -> Decoded:
    """Decode columns, and then encode the columns that have an encoder.

    If an item cannot be decoded, nothing is encoded.

    Args:
        columns: the columns, each with one source per item.
        scratch: the scratch folder of a preparation. Features are stored next to it, for reuse.
        progress: called with the progress.

    Raises:
        The errors of ``decode_columns`` and ``encode_columns``.
    """
    for column in columns:  # report missing weights before anything is decoded
        check_encoder(column.kind, column.options)
    decoded = decode_columns(columns, scratch, progress=progress)
    if decoded.problems:
        return decoded
    store = features_folder(scratch)
    return encode_columns(columns, decoded, scratch, store=store, progress=progress)


def encode_columns(
    columns: Sequence[Column],
    decoded: Decoded,
    folder: Path,
    *,
    store: Path | None = None,
    progress: Progress = no_progress,
) -> Decoded:
    """For columns that have an encoder, replace the decoded arrays by arrays of features.

    Args:
        columns: the columns that were decoded.
        decoded: result of ``decode_columns`` for these columns.
        folder: folder for the arrays of features.
        store: folder that stores features by the digest of their item, for reuse; None if features
            are not stored.
        progress: called with the number of encoded items and the number of all items.

    Raises:
        ConfigError: an encoder does not take these items.
        DataMissingError, DataCorruptError: weights or libraries are missing or damaged.
        DataError: a feature is not finite, or the features cannot be written.
    """
    arrays, encoders, views, notes = dict(decoded.arrays), {}, {}, list(decoded.notes)
    for column in columns:
        encoder, name = column.encoder, column.modality
        if encoder is None:
            continue
        encoded = _Encoding(column, encoder, folder, store, progress)
        rows, items = np.flatnonzero(decoded.masks[name]).tolist(), decoded.arrays[name]
        arrays[name], note = encoded.items(items, rows)
        if column.options.views > 1:
            views[name] = encoded.views(items, rows)
        encoders[name] = encoder.identity()
        notes += [f"{name}: {note}"] if note else []
    return replace(decoded, arrays=arrays, encoders=encoders, views=views, notes=tuple(notes))


class _Encoding:
    """Encodes the items of one column, and their views."""

    def __init__(
        self,
        column: Column,
        encoder: PretrainedEncoder,
        folder: Path,
        store: Path | None,
        progress: Progress,
    ) -> None:
        options = column.options
        self._column, self._encoder, self._folder = column, encoder, folder
        self._progress, self._dtype = progress, np.dtype(options.storage)
        self._encode = partial(
            encode_column,
            encoder,
            store=store,
            name=EncoderName(column.kind, options.encoder, options.pooling),
            progress=progress,
        )

    def items(self, items: Array, rows: Sequence[int]) -> tuple[Array, str]:
        """Return features [n, features] of items [n, *shape], and the note of ``encode_column``."""
        path = self._folder / f"{self._column.modality}.features.npy"
        file = RowFile(path, self._dtype, (len(items), self._width(items)))
        try:
            note = self._encode(items, rows, file)
        finally:
            file.close()
        return file.load(), note

    def views(self, items: Array, rows: Sequence[int]) -> Array:
        """Return features [n, views - 1, features] of views 1, 2, ... of items [n, *shape].

        View 1 of all items is encoded first, then view 2 of all items, and so on, so that a batch
        contains only one view. The features of a view therefore do not depend on the number of
        views.
        """
        name, n_more = self._column.modality, self._column.options.views - 1
        shape = (len(items), n_more, self._width(items))
        drawn = RowFile(self._folder / f"{name}.view.npy", items.dtype, items.shape)
        file = RowFile(
            self._folder / f"{name}.views.npy", self._dtype, (len(items) * n_more, shape[2])
        )
        try:
            for number in range(1, n_more + 1):
                self._draw(items, rows, number, drawn)
                self._encode(
                    drawn.load(),
                    rows,
                    file,
                    first=number - 1,
                    step=n_more,
                    progress=partial(self._tell_of_view, number),
                )
        finally:
            drawn.close()
            file.close()
        return file.load().reshape(shape)

    def _tell_of_view(self, number: int, stage: str, done: int, total: int) -> None:
        self._progress(f"{stage} view {number}", done, total)

    def _draw(self, items: Array, rows: Sequence[int], number: int, drawn: RowFile) -> None:
        decoder, reading = self._column.decoder, self._column.reading
        for done, row in enumerate(rows, start=1):
            item = np.asarray(items[row])
            rng = view_rng(item_key(item), number)
            view = decoder.view(item, reading, rng, flip=self._column.options.flip)
            drawn.write(row, view.tobytes())
            if done % _ROWS_TOLD == 0 or done == len(rows):
                self._progress(f"drawing view {number}", done, len(rows))

    def _width(self, items: Array) -> int:
        return self._encoder.n_features(items.shape[1:])
