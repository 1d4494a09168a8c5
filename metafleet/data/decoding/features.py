"""From decoded items to features, where the options of a kind name a pretrained encoder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.row_file import RowFile
from metafleet.data.summary import Progress, no_progress
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.choice import PLAIN, EncoderChoice
from metafleet.encoders.encoding import encode_rows
from metafleet.encoders.frames import Frames
from metafleet.encoders.registry import get_encoder
from metafleet.encoders.store import FeatureStore, store_key

_CHUNK_ITEMS = 1024


def encoder_of(kind: str, options: Any) -> PretrainedEncoder | None:
    """Return the encoder that the options of a kind name; None: none.

    Raises:
        ConfigError: there is no such encoder, or it takes another kind of data.
    """
    if not isinstance(options, EncoderChoice) or not options.is_encoded:
        return None
    frame_kind = get_decoder(kind).frame_kind
    if not frame_kind:
        return get_encoder(options.encoder, kind=kind, pooling=options.pooling)
    return Frames(get_encoder(options.encoder, kind=frame_kind, pooling=options.pooling))


def check_encoder(kind: str, options: Any) -> None:
    """Make sure that the encoder, if the options name one, is whole and takes such items.

    Raises:
        ConfigError, DataMissingError, DataCorruptError: it does not, or is not.
    """
    encoder = encoder_of(kind, options)
    if encoder is not None:
        encoder.identity()
        example_of(kind, options)


def reading_options(kind: str, options: Any) -> Any:
    """Return the options that items are decoded with: those of the encoder, if there is one."""
    encoder = encoder_of(kind, options)
    if encoder is None:
        return options
    plain = PLAIN | {"encoder": type(options)().encoder}
    return replace(options, **(plain | dict(encoder.reading(kind))))


def example_of(kind: str, options: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape of one item as it is stored: decoded, or encoded.

    Raises:
        ConfigError, DataMissingError, DataCorruptError: as ``check_encoder``.
    """
    encoder = encoder_of(kind, options)
    dtype, shape = get_decoder(kind).example(reading_options(kind, options))
    if encoder is None:
        return dtype, shape
    return np.dtype(options.storage), (encoder.n_features(shape),)


def features_folder(scratch: Path) -> Path:
    """Return where features are kept, given the scratch folder of a preparation."""
    return scratch.parent.parent / "features"  # <data_dir>/prepared/<scratch>


def encode_column(
    encoder: PretrainedEncoder,
    items: Array,
    rows: Sequence[int],
    file: RowFile,
    *,
    store: Path | None,
    progress: Progress = no_progress,
) -> str:
    """Encode rows of decoded items to a file.

    Args:
        encoder: takes such items.
        items: [n, *shape], decoded.
        rows: which of them; the others stay zeros.
        file: takes rows of features.
        store: folder of features that are kept; None: none.
        progress: told how many items are encoded.

    Returns:
        A note on items that were cut; "" for none.

    Raises:
        ConfigError, DataError: as ``encode_rows``.
    """
    width, kept = encoder.n_features(items.shape[1:]), None
    if store is not None:
        kept = FeatureStore(store / store_key(encoder.identity()), width)
    encode_rows(
        encoder,
        items,
        rows,
        lambda row, features: file.write(row, features.astype(file.dtype).tobytes()),
        store=kept,
        progress=lambda done, total: progress("encoding", done, total),
    )
    if not encoder.can_cut:
        return ""
    chunks = [list(rows[i : i + _CHUNK_ITEMS]) for i in range(0, len(rows), _CHUNK_ITEMS)]
    n_cut = sum(encoder.too_long(items[chunk]) for chunk in chunks)
    note = f"{n_cut} of {len(rows)} items are longer than encoder {encoder.name!r} takes"
    return f"{note}; it sees their beginning" if n_cut else ""
