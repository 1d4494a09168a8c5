"""Small pictures of prepared items, whatever they are: the tiles of a contact sheet."""

from typing import TYPE_CHECKING

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.drawing import FRAME, PAPER, draw_bars, tile_size
from metafleet.data.decoding.registry import get_decoder, has_decoder
from metafleet.data.sheet.sheet_fonts import SheetFonts

if TYPE_CHECKING:
    from PIL.Image import Image


def tile_width(kind: str) -> int:
    """Return a tile's width in pixels."""
    return _size(kind)[0]


def draw_tile(item: Array | None, kind: str, fonts: SheetFonts | None = None) -> "Image":
    """Draw one item of one modality.

    Args:
        item: the row of its array; None where the item lacks the modality, which is crossed out.
        kind: what it holds.
        fonts: those of the sheet; its own by default.
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
    return draw_bars(item.reshape(-1), 1)  # numbers of a class of the user's, of no known kind
