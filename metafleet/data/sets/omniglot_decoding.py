"""Decode one drawing of Omniglot from the official files to pixels and pen points."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from metafleet.data.strokes import resample
from metafleet.errors import DataCorruptError, DataMissingError

SIDE = 28
_ORIGINAL_SIDE = 105

Drawing = tuple[str, int]
"""("Alphabet/characterNN", drawer from 1)."""


def decode_png(drawing: Drawing, read: Callable[[], bytes]) -> npt.NDArray[np.uint8]:
    """Convert a PNG of 105x105 pixels with black ink to an array [28, 28] in which ink is 255.

    Raises:
        DataCorruptError: the bytes are not a PNG of this form.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - only reading PNGs needs the decoder
    except ImportError as error:
        raise DataMissingError(
            "reading Omniglot's PNGs needs Pillow; run `pip install 'metafleet[data]'`"
        ) from error
    try:
        with Image.open(io.BytesIO(read()), formats=["PNG"]) as image:
            if image.size != (_ORIGINAL_SIDE, _ORIGINAL_SIDE):
                raise ValueError(f"it is {image.size[0]}x{image.size[1]}, not 105x105")
            inverted = 255 - np.asarray(image.convert("L"))
        small = Image.fromarray(inverted).resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(small)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow: SyntaxError for broken PNGs
        raise DataCorruptError(
            f"the image of {drawing[0]} by drawer {drawing[1]} cannot be read ({error}); "
            "get the data again"
        ) from error


def decode_strokes(drawing: Drawing, read: Callable[[], bytes]) -> npt.NDArray[np.float32]:
    """Read lines "x,y,milliseconds" between START and BREAK.

    In these lines, y points up, from -105 to 0.

    Raises:
        DataCorruptError: the text has another format.
    """
    lines: list[list[tuple[float, float]]] = [[]]
    try:
        for line in read().decode("ascii").split():
            if line == "BREAK":
                lines.append([])
            elif line != "START":
                x, y, _ = line.split(",")
                lines[-1].append((float(x) / _ORIGINAL_SIDE, -float(y) / _ORIGINAL_SIDE))
        points = [np.array(stroke) for stroke in lines if stroke]
        if not points or not all(np.isfinite(stroke).all() for stroke in points):
            raise ValueError("no finite points")
    except (OSError, ValueError) as error:
        raise DataCorruptError(
            f"the strokes of {drawing[0]} by drawer {drawing[1]} cannot be read ({error}); "
            "get the data again"
        ) from error
    return resample(points)
