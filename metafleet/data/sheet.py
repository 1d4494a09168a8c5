"""A contact sheet: a few classes of each split, each item's image beside its pen sequence."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from metafleet.data.class_data import ClassData
from metafleet.data.prepared import Array
from metafleet.errors import DataError, DataMissingError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

T = TypeVar("T")
_TILE = 56
_GAP = 2
_ITEM_GAP = 8
_LABEL_HEIGHT = 20
_TITLE_HEIGHT = 36
_BLOCK_GAP = 20
_PAD = 24
_COLUMNS = 3
_ROWS = 4
_ITEMS = 4
_SMOOTH = 4
_PAPER, _INK, _FAINT, _FRAME = (255, 255, 255), (20, 24, 31), (112, 120, 133), (226, 229, 234)
_FIRST, _LAST = (37, 99, 235), (220, 38, 38)  # a pen sequence runs from blue to red


def write_sheet(data: ClassData, path: Path) -> None:
    """Draw the sheet and write it to ``path`` as PNG.

    Raises:
        DataMissingError: Pillow is not installed.
        DataError: ``path`` cannot be written.
    """
    try:
        from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it
    except ImportError as error:
        raise DataMissingError(
            "a sheet needs Pillow; run `pip install 'metafleet[data]'`"
        ) from error
    modalities = [m for m in ("image", "stroke") if m in data.prepared.arrays]
    cell_width = _ITEMS * (len(modalities) * (_TILE + _GAP) + _ITEM_GAP) + _PAD
    row_height = _LABEL_HEIGHT + _TILE + _PAD // 2
    block_height = _TITLE_HEIGHT + _ROWS * row_height + _BLOCK_GAP
    size = (_PAD + _COLUMNS * cell_width, _PAD + len(data.splits) * block_height)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    arrays = {modality: data.prepared.load(modality) for modality in modalities}
    for block, (split, names) in enumerate(data.splits.items()):
        top = _PAD + block * block_height
        draw.text((_PAD, top), _title(data, split), fill=_INK, font=_font(20))
        for position, name in enumerate(_spread(names, _COLUMNS * _ROWS)):
            row, column = divmod(position, _COLUMNS)
            left = _PAD + column * cell_width
            at = (left, top + _TITLE_HEIGHT + row * row_height)
            _draw_label(draw, at, name, cell_width - _PAD)
            _draw_class(sheet, (at[0], at[1] + _LABEL_HEIGHT), arrays, _items(data, name))
    try:
        sheet.save(path, format="PNG", optimize=True)
    except OSError as error:
        raise DataError(
            f"cannot write the sheet {path} ({error.strerror or error}); choose another file"
        ) from error


def _title(data: ClassData, split: str) -> str:
    groups = list(dict.fromkeys(c.group for c in data.prepared.classes))
    chosen = set(data.splits[split])
    used = [
        g for g in groups if any(c.group == g and c.name in chosen for c in data.prepared.classes)
    ]
    names = ", ".join(used) if len(used) <= 6 else f"{len(used)} groups"
    return f"{data.name} {split}: {len(chosen):,} classes ({names})".replace("_(", " (")


def _spread(values: Sequence[T], n: int) -> list[T]:
    """Choose n values, evenly over the whole list."""
    count = min(n, len(values))
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]


def _items(data: ClassData, name: str) -> list[int]:
    rows = data.rows()[name]
    return _spread(range(rows.start, rows.start + rows.count), _ITEMS)


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont  # noqa: PLC0415 - only the sheet needs it

    return ImageFont.load_default(size)


def _draw_label(draw: "ImageDraw", at: tuple[int, int], name: str, width: int) -> None:
    font = _font(12)
    text = name.replace("_", " ")
    while draw.textlength(text, font=font) > width:
        text = text.removesuffix("…")[:-1] + "…"
    draw.text(at, text, fill=_FAINT, font=font)


def _draw_class(
    sheet: "Image", at: tuple[int, int], arrays: dict[str, Array], items: Sequence[int]
) -> None:
    left, top = at
    for item in items:
        for modality, array in arrays.items():
            tile = _image_tile(array[item]) if modality == "image" else _stroke_tile(array[item])
            sheet.paste(tile, (left, top))
            left += _TILE + _GAP
        left += _ITEM_GAP


def _image_tile(pixels: Array) -> "Image":
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    tile = Image.fromarray(255 - pixels).resize((_TILE, _TILE), Image.Resampling.NEAREST)
    tile = tile.convert("RGB")
    ImageDraw.Draw(tile).rectangle((0, 0, _TILE - 1, _TILE - 1), outline=_FRAME)
    return tile


def _stroke_tile(strokes: Array) -> "Image":
    """Draw the pen's way, blue to red, with a dot where each stroke begins."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    side = _TILE * _SMOOTH
    tile = Image.new("RGB", (side, side), _PAPER)
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
        elif points[:, 2].any():
            radius = 2 * _SMOOTH
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        begins = pen > 0
    if not points[:, 2].any():  # this item has no strokes
        draw.line((0, side, side, 0), fill=_FRAME, width=_SMOOTH)
    tile = tile.resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    ImageDraw.Draw(tile).rectangle((0, 0, _TILE - 1, _TILE - 1), outline=_FRAME)
    return tile
