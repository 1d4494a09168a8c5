"""Drawing tools for the tiles of a contact sheet."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

Values = npt.NDArray[Any]

TILE = 56
"""Side of a square, in pixels."""
GAP = 2
PAPER, INK, FAINT, FRAME = (255, 255, 255), (20, 24, 31), (112, 120, 133), (226, 229, 234)
FIRST, LAST = (37, 99, 235), (220, 38, 38)
"""Blue and red: the first and last colour of an ordered drawing."""
SMOOTH = 4
"""Supersampling factor: lines are drawn this many times larger, then scaled down."""


class Fonts(Protocol):
    """Fonts for any characters."""

    def load(self, text: str, size: int) -> "ImageFont | FreeTypeFont":
        """Return the font that covers the most characters of a text."""
        ...


def tile_size(n_squares: int) -> tuple[int, int]:
    """Return width and height in pixels of a tile that is ``n_squares`` wide."""
    return n_squares * (TILE + GAP) - GAP, TILE


def draw_picture(pixels: Values) -> "Image":
    """Draw [height, width] with 255 as black, or [channels, height, width] with 255 as light."""
    from PIL import Image  # noqa: PLC0415 - only the sheet needs it

    if pixels.ndim == 2:
        picture = Image.fromarray(255 - pixels)
    elif pixels.shape[0] == 1:
        picture = Image.fromarray(pixels[0])
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return picture.resize((TILE, TILE), Image.Resampling.NEAREST)


def draw_bars(numbers: Values, n_squares: int) -> "Image":
    """Draw a bar for each number, or for the mean of neighbours if there are too many."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    tile = Image.new("RGB", tile_size(n_squares), PAPER)
    draw = ImageDraw.Draw(tile)
    groups = np.array_split(numbers.astype(np.float64), min(len(numbers), tile.width // 4))
    heights = spread(np.array([group.mean() for group in groups]))
    step = tile.width / len(heights)
    for index, height in enumerate(heights):
        left, top = index * step + 1, (1 - height) * (TILE - 6) + 3
        draw.rectangle((left, top, left + step - 2, TILE - 2), fill=FAINT)
    return tile


def blend(share: float) -> tuple[int, ...]:
    """Interpolate between ``FIRST`` (share 0) and ``LAST`` (share 1)."""
    return tuple(round(a + share * (b - a)) for a, b in zip(FIRST, LAST, strict=True))


def spread(values: Values) -> Values:
    """Map values to [0, 1], the smallest to 0 and the largest to 1."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low if high > low else 1.0))
