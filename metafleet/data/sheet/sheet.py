"""A contact sheet: a few classes of each split, each item's modalities side by side."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.drawing import (
    FAINT,
    FRAME,
    GAP,
    INK,
    PAPER,
    TILE,
    draw_bars,
    tile_size,
)
from metafleet.data.decoding.registry import get_decoder, has_decoder
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.sheet.sheet_fonts import SheetFonts
from metafleet.errors import DataError, DataMissingError

if TYPE_CHECKING:
    from PIL.Image import Image


def tile_width(kind: str) -> int:
    """Return a tile's width in pixels."""
    return _size(kind)[0]


def draw_tile(item: Array | None, kind: str, fonts: SheetFonts | None = None) -> "Image":
    """Draw one item of one modality.

    Args:
        item: the item's row of the array. None, for an item that lacks the modality, draws a
            crossed-out tile.
        kind: kind of the modality.
        fonts: fonts of the sheet; new ones by default.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

    size = _size(kind)
    if item is None:
        tile = Image.new("RGB", size, PAPER)
        ImageDraw.Draw(tile).line((0, size[1], size[0], 0), fill=FRAME, width=1)
    else:
        tile = _draw(item, kind, fonts or SheetFonts()).convert("RGB")
    ImageDraw.Draw(tile).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=FRAME)
    return tile


def _size(kind: str) -> tuple[int, int]:
    return tile_size(get_decoder(kind).n_squares if has_decoder(kind) else 1)


def _draw(item: Array, kind: str, fonts: SheetFonts) -> "Image":
    if has_decoder(kind):
        return get_decoder(kind).draw(item, fonts)
    return draw_bars(item.reshape(-1), 1)  # items of a user's class, of no known kind


if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

T = TypeVar("T")
_ITEM_GAP = 8
_LABEL_HEIGHT = 20
_TITLE_HEIGHT = 36
_BLOCK_GAP = 20
_PAD = 24
_ROWS = 4
_WIDEST_CELL = 600


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The items of one modality, ready to draw."""

    array: Array
    kind: str
    mask: Array | None
    fonts: SheetFonts

    def draw(self, item: int) -> "Image":
        is_there = self.mask is None or bool(self.mask[item])
        return draw_tile(self.array[item] if is_there else None, self.kind, self.fonts)


def write_sheet(data: ClassData, path: Path) -> str:
    """Draw the sheet and write it to ``path`` as PNG.

    Returns:
        A note on characters that are drawn as boxes because no font has them; "" if there are none.

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
    prepared, fonts = data.prepared, SheetFonts()
    arrays = {
        modality: _Tiles(
            prepared.load(modality),
            "" if info.encoder else info.kind,
            prepared.load_mask(modality),
            fonts,
        )
        for modality, info in prepared.arrays.items()
    }
    item_width = sum(tile_width(tiles.kind) + GAP for tiles in arrays.values()) + _ITEM_GAP
    n_items = max(1, min(4, _WIDEST_CELL // item_width))
    n_columns = 3 if n_items > 1 else 2
    cell_width = n_items * item_width + _PAD
    row_height = _LABEL_HEIGHT + TILE + _PAD // 2
    chosen = {split: _spread(names, n_columns * _ROWS) for split, names in data.splits.items()}
    heights = [
        _TITLE_HEIGHT + -(-len(names) // n_columns) * row_height + _BLOCK_GAP
        for names in chosen.values()
    ]
    size = (_PAD + n_columns * cell_width, _PAD + sum(heights))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    tops = itertools.accumulate(heights, initial=_PAD)
    for top, (split, names) in zip(tops, chosen.items(), strict=False):
        title = _title(data, split)
        draw.text((_PAD, top), title, fill=INK, font=fonts.load(title, 16))
        for position, name in enumerate(names):
            row, column = divmod(position, n_columns)
            left = _PAD + column * cell_width
            at = (left, top + _TITLE_HEIGHT + row * row_height)
            _draw_label(draw, at, name, cell_width - _PAD, fonts)
            _draw_class(sheet, (at[0], at[1] + _LABEL_HEIGHT), arrays, _items(data, name, n_items))
    try:
        sheet.save(path, format="PNG", optimize=True)
    except OSError as error:
        raise DataError(
            f"cannot write the sheet {path} ({error.strerror or error}); choose another file"
        ) from error
    return fonts.note()


def _title(data: ClassData, split: str) -> str:
    groups = list(dict.fromkeys(c.group for c in data.prepared.classes if c.group))
    chosen = set(data.splits[split])
    used = [
        g for g in groups if any(c.group == g and c.name in chosen for c in data.prepared.classes)
    ]
    names = ", ".join(used) if len(used) <= 6 else f"{len(used)} groups"
    modalities = ", ".join(data.prepared.arrays)
    return (
        f"{data.name} {split}: {len(chosen):,} classes"
        + (f" ({names})" if names else "")
        + (f"; of each item {modalities}" if "," in modalities else "")
    )


def _spread(values: Sequence[T], n: int) -> list[T]:
    """Return at most n values, evenly spaced over the whole list."""
    count = min(n, len(values))
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]


def _items(data: ClassData, name: str, n_items: int) -> list[int]:
    rows = data.rows()[name]
    return _spread(range(rows.start, rows.start + rows.count), n_items)


def _draw_label(
    draw: "ImageDraw", at: tuple[int, int], name: str, width: int, fonts: SheetFonts
) -> None:
    text = name.replace("_", " ")
    font = fonts.load(text, 11)
    while draw.textlength(text, font=font) > width:
        text = text.removesuffix("…")[:-1] + "…"
    draw.text(at, text, fill=FAINT, font=font)


def _draw_class(
    sheet: "Image", at: tuple[int, int], arrays: dict[str, _Tiles], items: Sequence[int]
) -> None:
    left, top = at
    for item in items:
        for tiles in arrays.values():
            tile = tiles.draw(item)
            sheet.paste(tile, (left, top))
            left += tile.width + GAP
        left += _ITEM_GAP
