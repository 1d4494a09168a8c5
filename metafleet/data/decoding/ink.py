"""Encodes pictures of ink, which data sets have as arrays instead of files."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.columns import Column, Decoded
from metafleet.data.decoding.encoded_columns import prepare_columns
from metafleet.data.decoding.image import ImageOptions
from metafleet.data.decoding.raster import pillow
from metafleet.data.summary import Progress
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DataCorruptError

_MODALITY = "image"


def ink_options(choice: EncoderChoice) -> ImageOptions:
    """Return the decoder options for pictures of ink, after checking the choice of encoder.

    Raises:
        ConfigError: the choice is invalid.
    """
    return ImageOptions(**asdict(choice))


def ink_recipe(choice: EncoderChoice) -> dict[str, Any]:
    """Return the encoder's part of the recipe of prepared data; {} without an encoder."""
    if not choice.is_encoded:
        return {}
    return {_MODALITY: Column(_MODALITY, _MODALITY, ink_options(choice), ()).recipe()}


def encode_ink(images: Array, choice: EncoderChoice, scratch: Path, progress: Progress) -> Decoded:
    """Return features of pictures as modality "image".

    The encoder gets pictures with dark ink on white paper, like scans.

    Args:
        images: uint8 [n, height, width], with ink 255 and paper 0.
        choice: the choice of an encoder. If the choice names no encoder, the pictures are returned.
        scratch: scratch folder of the preparation.
        progress: called with the number of encoded pictures and the number of all pictures.

    Raises:
        ConfigError, DataError: for the same reasons as ``prepare_columns``.
    """
    if not choice.is_encoded:
        return Decoded({_MODALITY: images}, {}, ())
    pillow()
    column = Column(_MODALITY, _MODALITY, ink_options(choice), [_png(255 - it) for it in images])
    decoded = prepare_columns([column], scratch, progress=progress)
    if decoded.problems:
        raise DataCorruptError(f"a picture cannot be read: {decoded.problems[0].why}")
    return decoded


def _png(picture: Array) -> bytes:
    from PIL import Image  # noqa: PLC0415 - optional

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture, np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
