"""Pictures of ink that a data set stores without files, for a pretrained encoder of pictures."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.columns import Column, prepare_columns
from metafleet.data.decoding.image import ImageOptions
from metafleet.data.decoding.raster import pillow
from metafleet.data.summary import Progress
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DataCorruptError

_MODALITY = "image"


def ink_options(choice: EncoderChoice) -> ImageOptions:
    """Return the options of the pictures; checks them.

    Raises:
        ConfigError: the choice is wrong.
    """
    return ImageOptions(**asdict(choice))


def ink_recipe(choice: EncoderChoice) -> dict[str, Any]:
    """Return what the key of prepared data needs: {} without an encoder."""
    if not choice.is_encoded:
        return {}
    return {_MODALITY: Column(_MODALITY, _MODALITY, ink_options(choice), ()).recipe()}


def encode_ink(
    images: Array, choice: EncoderChoice, scratch: Path, progress: Progress
) -> tuple[Array, Mapping[str, Mapping[str, Any]]]:
    """Return features of pictures, and the identity of their encoder.

    The encoder sees what a scanner would: dark ink on white paper.

    Args:
        images: uint8 [n, height, width], ink 255 and paper 0.
        choice: the encoder; without one, the pictures are returned as they are, and {}.
        scratch: the folder that a preparation was given.
        progress: told how far it is.

    Raises:
        As ``prepare_columns``.
    """
    if not choice.is_encoded:
        return images, {}
    pillow()
    column = Column(_MODALITY, _MODALITY, ink_options(choice), [_png(255 - it) for it in images])
    decoded = prepare_columns([column], scratch, progress=progress)
    if decoded.problems:
        raise DataCorruptError(f"a picture cannot be read: {decoded.problems[0].why}")
    return decoded.arrays[_MODALITY], decoded.encoders


def _png(picture: Array) -> bytes:
    from PIL import Image  # noqa: PLC0415 - optional

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture, np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
