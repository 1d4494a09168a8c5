"""Small pictures of prepared items, whatever they are: the tiles of a contact sheet."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metafleet.data.prepared.prepared import Array
from metafleet.data.sheet.sheet_fonts import SheetFonts

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 56
GAP = 2
PAPER, INK, FAINT, FRAME = (255, 255, 255), (20, 24, 31), (112, 120, 133), (226, 229, 234)
_SMOOTH = 4
_FIRST, _LAST = (37, 99, 235), (220, 38, 38)  # a pen sequence runs from blue to red
_WIDE = ("text", "video")


def tile_width(kind: str) -> int:
    """Return a tile's width in pixels; texts and clips take two squares."""
    return 2 * TILE + GAP if kind in _WIDE else TILE


def draw_tile(item: Array | None, kind: str, fonts: SheetFonts | None = None) -> "Image":
    """Draw one item of one modality.

    Args:
        item: the row of its array; None where the item lacks the modality, which is crossed out.
        kind: what it holds.
        fonts: those of the sheet; its own by default.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    size = (tile_width(kind), TILE)
    if item is None:
        tile = Image.new("RGB", size, PAPER)
        ImageDraw.Draw(tile).line((0, size[1], size[0], 0), fill=FRAME, width=1)
    elif kind == "text":
        tile = _text(item, fonts or SheetFonts())
    else:
        tile = _DRAWERS[kind](item).convert("RGB")
    ImageDraw.Draw(tile).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=FRAME)
    return tile


def _image(pixels: Array) -> "Image":
    """Draw [height, width] of ink, or [channels, height, width] of light."""
    from PIL import Image  # noqa: PLC0415 - only the sheet needs it

    if pixels.ndim == 2:
        picture = Image.fromarray(255 - pixels)
    elif pixels.shape[0] == 1:
        picture = Image.fromarray(pixels[0])
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return picture.resize((TILE, TILE), Image.Resampling.NEAREST)


def _video(frames: Array) -> "Image":
    """Draw the first frame and the one in the middle."""
    from PIL import Image  # noqa: PLC0415 - only the sheet needs it

    tile = Image.new("RGB", (tile_width("video"), TILE), PAPER)
    tile.paste(_image(frames[0]), (0, 0))
    tile.paste(_image(frames[len(frames) // 2]), (TILE + GAP, 0))
    return tile


def _spectrogram(bands: Array) -> "Image":
    """Draw [bands, frames], low tones below, loud ones dark."""
    from PIL import Image  # noqa: PLC0415 - only the sheet needs it

    grey = 255 - 255 * _spread(bands.astype(np.float64))
    picture = Image.fromarray(grey[::-1].astype(np.uint8))
    return picture.resize((TILE, TILE), Image.Resampling.BILINEAR)


def _text(values: Array, fonts: SheetFonts) -> "Image":
    """Write bytes of UTF-8; of features, draw their bars."""
    if values.dtype != np.uint8:
        return _bars(values, tile_width("text"))
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    tile = Image.new("RGB", (tile_width("text"), TILE), PAPER)
    text = values.tobytes().rstrip(b"\0").decode(errors="replace")
    draw, font = ImageDraw.Draw(tile), fonts.load(text, 9)
    lines = wrap(text, lambda line: draw.textlength(line, font=font) <= tile.width - 6)
    draw.multiline_text((3, 2), "\n".join(lines[:4]), fill=INK, font=font, spacing=2)
    return tile


def wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Break a text into lines that fit, between words; within a word that alone does not fit."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in "".join(filter(str.isprintable, paragraph)).split():
            joined = f"{line} {word}" if line else word
            if fits(joined):
                line = joined
                continue
            if line:
                lines.append(line)
            line = ""
            for character in word:
                if line and not fits(line + character):
                    lines.append(line)
                    line = ""
                line += character
        lines.append(line)
    return lines


def _stroke(strokes: Array) -> "Image":
    """Draw the pen's way, blue to red, with a dot where each stroke begins."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    side = TILE * _SMOOTH
    tile = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(tile)
    points = strokes.astype(np.float64)
    begins = True
    for index in range(len(points)):
        x, y, pen = points[index] * (side, side, 1)
        share = index / (len(points) - 1)
        colour = tuple(round(a + share * (b - a)) for a, b in zip(_FIRST, _LAST, strict=True))
        if not begins:
            before = points[index - 1] * side
            draw.line((before[0], before[1], x, y), fill=colour, width=round(1.6 * _SMOOTH))
        else:
            radius = 2 * _SMOOTH
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        begins = pen > 0
    return tile.resize((TILE, TILE), Image.Resampling.LANCZOS)


def _table(numbers: Array) -> "Image":
    return _bars(numbers, TILE)


def _bars(numbers: Array, width: int) -> "Image":
    """Draw a bar for each number, or for the mean of some neighbours where they are many."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    tile = Image.new("RGB", (width, TILE), PAPER)
    draw = ImageDraw.Draw(tile)
    groups = np.array_split(numbers.astype(np.float64), min(len(numbers), width // 4))
    heights = _spread(np.array([group.mean() for group in groups]))
    step = width / len(heights)
    for index, height in enumerate(heights):
        left, top = index * step + 1, (1 - height) * (TILE - 6) + 3
        draw.rectangle((left, top, left + step - 2, TILE - 2), fill=FAINT)
    return tile


def _spread(values: Array) -> Array:
    """Map values to [0, 1], the smallest to 0 and the largest to 1."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low if high > low else 1.0))


_DRAWERS: Mapping[str, Callable[[Array], "Image"]] = {
    "image": _image,
    "audio": _spectrogram,
    "video": _video,
    "stroke": _stroke,
    "table": _table,
}
