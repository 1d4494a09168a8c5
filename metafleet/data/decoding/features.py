"""Encode decoded items as features, if the options of a kind name a pretrained encoder."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.row_file import RowFile
from metafleet.data.summary import ENCODING, Progress, no_progress
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.choice import PLAIN, EncoderChoice, EncoderName
from metafleet.encoders.encoding import encode_rows
from metafleet.encoders.frames import Frames
from metafleet.encoders.registry import get_encoder
from metafleet.encoders.store import FeatureStore, store_key
from metafleet.errors import ConfigError, DataError

_CHUNK_ITEMS = 1024


def encoder_of(kind: str, options: Any) -> PretrainedEncoder | None:
    """Return the encoder that the options of a kind name; None if they name none.

    Raises:
        ConfigError: there is no such encoder, or it takes another kind of data.
    """
    if not isinstance(options, EncoderChoice) or not options.is_encoded:
        return None
    frame_kind = get_decoder(kind).frame_kind
    if not frame_kind:
        return get_encoder(options.encoder, kind=kind, pooling=options.pooling)
    return Frames(get_encoder(options.encoder, kind=frame_kind, pooling=options.pooling))


def find_encoder(name: EncoderName) -> PretrainedEncoder:
    """Return the encoder of that name. Raises the errors of ``encoder_of``."""
    found = encoder_of(name.kind, EncoderChoice(encoder=name.encoder, pooling=name.pooling))  # type: ignore[arg-type]
    if found is None:
        raise ConfigError(f"encoder={name.encoder!r} names no encoder")
    return found


def check_encoder(kind: str, options: Any) -> None:
    """If the options name an encoder, check that it is usable for such items.

    Raises:
        ConfigError: the encoder does not exist or does not take such items, or there are no views
            of such items.
        DataMissingError, DataCorruptError: its weights or libraries are missing or damaged.
    """
    encoder = encoder_of(kind, options)
    if encoder is not None:
        encoder.identity()
        example_of(kind, options)
        if options.views > 1:
            get_decoder(kind).check_views(reading_options(kind, options), flip=options.flip)


def reading_options(kind: str, options: Any) -> Any:
    """Return the options with which items are decoded; an encoder overrides some of them."""
    encoder = encoder_of(kind, options)
    if encoder is None:
        return options
    plain = PLAIN | {"encoder": type(options)().encoder}
    reading = plain | dict(encoder.reading(kind))
    unknown = sorted(set(reading) - {each.name for each in fields(options)})
    if unknown:
        raise ConfigError(
            f"encoder {encoder.name!r} asks for {unknown[0]!r}, which is no option of {kind!r}; "
            "correct its `reading`"
        )
    return replace(options, **reading)


def example_of(kind: str, options: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape of one stored item. If it has an encoder, its features are stored.

    Raises:
        ConfigError, DataMissingError, DataCorruptError: for the same reasons as ``check_encoder``.
    """
    encoder = encoder_of(kind, options)
    dtype, shape = get_decoder(kind).example(reading_options(kind, options))
    if encoder is None:
        return dtype, shape
    return np.dtype(options.storage), (encoder.n_features(shape),)


def features_folder(scratch: Path) -> Path:
    """Return the folder that stores features, given the scratch folder of a preparation."""
    return scratch.parent.parent / "features"  # <data_dir>/prepared/<scratch>


def encode_column(  # noqa: PLR0913 - each is a seam
    encoder: PretrainedEncoder,
    items: Array,
    rows: Sequence[int],
    file: RowFile,
    *,
    store: Path | None,
    name: EncoderName | None = None,
    first: int = 0,
    step: int = 1,
    progress: Progress = no_progress,
) -> str:
    """Encode rows of decoded items to a file.

    Args:
        encoder: an encoder for items of this kind.
        items: decoded items [n, *shape].
        rows: numbers of the items to encode. The rows of other items stay zeros.
        file: file to which rows of features are written.
        store: folder that stores features for reuse; None if features are not stored.
        name: how other processes find the encoder, see ``encode_rows``.
        first: number of the file's row to which item 0 is written.
        step: distance, in rows of the file, from the row of an item to the row of the next item.
        progress: called with the number of encoded items and the number of all items.

    Returns:
        A note that counts truncated items; "" if there are none.

    Raises:
        ConfigError: the encoder does not take items of this shape.
        DataError: for the same reasons as ``encode_rows``, or features are too large for the dtype
            of the file.
    """
    width, kept = encoder.n_features(items.shape[1:]), None
    if store is not None:
        # some encoders give longer items more features, so the width is part of the name
        kept = FeatureStore(store / f"{store_key(encoder.identity())}-{width}", width)
    try:
        encode_rows(
            encoder,
            items,
            rows,
            lambda row, features: file.write(
                first + step * row, _stored(encoder, features, file.dtype).tobytes()
            ),
            store=kept,
            name=name,
            progress=lambda done, total: progress(ENCODING, done, total),
        )
    except KeyboardInterrupt as interrupt:
        if kept is not None:
            interrupt.add_note("features of finished batches are kept; the same command goes on")
        raise
    if not encoder.can_cut:
        return ""
    chunks = [list(rows[i : i + _CHUNK_ITEMS]) for i in range(0, len(rows), _CHUNK_ITEMS)]
    n_cut = sum(encoder.too_long(items[chunk]) for chunk in chunks)
    note = f"{n_cut} of {len(rows)} items are longer than encoder {encoder.name!r} takes"
    return f"{note}; it sees their beginning" if n_cut else ""


def _stored(encoder: PretrainedEncoder, features: Array, dtype: np.dtype[Any]) -> Array:
    """Return finite features in the dtype in which they are stored."""
    with np.errstate(over="ignore"):
        found: Array = features.astype(dtype)
    if not np.isfinite(found).all():
        raise DataError(
            f"encoder {encoder.name!r} gave a feature of size {np.abs(features).max():.6g}, but "
            f"storage='{dtype.name}' keeps at most {np.finfo(dtype).max:.6g}; set "
            "storage='float32'"
        )
    return found
