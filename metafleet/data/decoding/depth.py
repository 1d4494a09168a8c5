"""Grey pictures of more than 8 bits: the range of values that is mapped to 0 to 255."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from metafleet.errors import DecodeError
from metafleet.options import is_finite_number, require

if TYPE_CHECKING:
    from PIL.Image import Image

Range = Literal["dtype", "file", "data"] | tuple[float, ...]
"""The values of a deep picture that become 0 and 255.

"dtype" means 0 and 65535. "file" means the smallest and largest value of each picture, and "data"
the smallest and largest value of all pictures of a data set. Two numbers are the values themselves.
Values outside are clipped. Pictures of 8 bits are not changed.
"""
RANGES = "'dtype', 'file', 'data' or two finite numbers, the first the smaller one"
DTYPE_SPAN = (0.0, 65535.0)
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_WHITE = 255
Values = npt.NDArray[Any]


def check_range(chosen: Range) -> None:
    """Check that a range is valid.

    Raises:
        ConfigError: the range is invalid; the message gives its value.
    """
    if not isinstance(chosen, str):
        is_pair = len(chosen) == 2 and all(map(is_finite_number, chosen))
        require(is_pair and chosen[0] < chosen[1], "range", list(chosen), RANGES)


def is_deep(image: "Image") -> bool:
    """Return whether a picture is grey with more than 8 bits per pixel."""
    return image.mode in _DEEP_MODES


def has_deep_colours(image: "Image") -> bool:
    """Return whether an unloaded picture has 16 bits per colour, of which Pillow reads 8."""
    tiles = getattr(image, "tile", [])
    return image.mode not in _DEEP_MODES and any(";16" in str(tile[3]) for tile in tiles)


def deep_values(image: "Image") -> Values:
    """Return the values of a picture of more than 8 bits: int64 or float64 [height, width].

    Raises:
        DecodeError: a value is not finite.
    """
    values = np.asarray(image)
    values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    if not np.isfinite(values).all():
        raise DecodeError("the picture has values that are not finite")
    return values


def to_eight_bits(values: Values, chosen: Range) -> npt.NDArray[np.uint8]:
    """Map a range of values to 0 to 255, rounded down. If the range is empty, all results are 0.

    Raises:
        DecodeError: the range is "dtype" but the values are floats, or the range is "data", which
            must be measured first.
    """
    if chosen == "data":  # ``Decoder.measured`` replaces it by two numbers
        raise DecodeError('the range of all pictures was not measured, as range = "data" needs')
    if chosen == "dtype" and values.dtype.kind == "f":
        raise DecodeError(
            "the picture has float pixels, without a range; expected 8 or 16 bits, or the option "
            "range"
        )
    low, high = _span(values, chosen)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    inside = np.clip(values, low, high)
    if all(float(end).is_integer() for end in (low, high)) and values.dtype.kind != "f":
        return ((inside - int(low)).astype(np.int64) * _WHITE // int(high - low)).astype(np.uint8)
    return np.floor((inside - low) * (_WHITE / (high - low))).astype(np.uint8)


def _span(values: Values, chosen: Range) -> tuple[float, float]:
    if chosen == "file":
        return values.min().item(), values.max().item()
    if isinstance(chosen, str):
        return DTYPE_SPAN
    return chosen[0], chosen[1]
