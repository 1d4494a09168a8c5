"""Fonts for the labels and texts of a sheet, in any script."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metafleet.data.sets.glyph_faces import font_folder
from metafleet.errors import DataMissingError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

_SHOWN = 8
_BOXES_ALONE = "lastresort"  # a font with a box as the glyph of every character


class SheetFonts:
    """Finds fonts for texts; use one object per sheet, because it records missing characters."""

    def __init__(self) -> None:
        self._boxes: dict[str, None] = {}
        self._nowhere: set[str] = set()
        self._chosen: list[Path] = []  # fonts of earlier texts, which likely fit the next text too
        self._others: list[Path] | None = None

    def load(self, text: str, size: int) -> "Font":
        """Return the font for a text: DejaVu if it has all characters, else the best installed."""
        from PIL import ImageFont  # noqa: PLC0415 - only the sheet needs it

        try:
            plain = font_folder() / "DejaVuSans.ttf"
        except DataMissingError:
            return ImageFont.load_default(size)
        visible = {c for c in text if c.isprintable() and not c.isspace()}
        best = plain if text.isascii() else self._best(plain, visible, size)
        return _load(best, size) or ImageFont.load_default(size)

    def note(self) -> str:
        """Return a note on the characters that were drawn as boxes; "" if there are none."""
        n = len(self._boxes)
        if not n:
            return ""
        what = (
            "1 character of the sheet is a box"
            if n == 1
            else f"{n} characters of the sheet are boxes"
        )
        shown = " ".join(list(self._boxes)[:_SHOWN])
        more = " ..." if n > _SHOWN else ""
        return (
            f"{what} ({shown}{more}): no font on this machine has all of their text; install one, "
            "such as those of Noto"
        )

    def _best(self, plain: Path, visible: set[str], size: int) -> Path:
        """Return the font that lacks the fewest of these characters, and record which it lacks."""
        asked = visible - self._nowhere
        best, fewest = plain, _lacking(plain, asked)
        nowhere = fewest
        for path in self._candidates() if fewest else ():
            lacking = _lacking(path, asked)
            if len(lacking) == len(asked) or _load(path, size) is None:
                continue
            nowhere = nowhere & lacking
            if len(lacking) < len(fewest):
                best, fewest = path, lacking
            if not lacking:
                break
        if best not in self._chosen:
            self._chosen.append(best)
        self._nowhere |= nowhere
        self._boxes |= dict.fromkeys(sorted(fewest | (visible & self._nowhere)))
        return best

    def _candidates(self) -> Iterator[Path]:
        yield from tuple(self._chosen)
        if self._others is None:
            self._others = _installed()
        yield from self._others


def _installed() -> list[Path]:
    """Return the installed fonts, regular sans-serif ones first."""
    from matplotlib.font_manager import findSystemFonts  # noqa: PLC0415 - a second to import

    def order(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return ("regular" not in name, "sans" not in name, str(path))

    paths = (Path(path) for path in findSystemFonts())
    return sorted((p for p in paths if not p.name.lower().startswith(_BOXES_ALONE)), key=order)


def _lacking(path: Path, characters: set[str]) -> set[str]:
    """Return the characters for which a font has no glyph; all of them if it cannot be read."""
    if not characters:
        return set()
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415 - a second to import

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):
        return characters
    return {c for c in characters if not font.get_char_index(ord(c))}


def _load(path: Path, size: int) -> "Font | None":
    """Load a font; return None if it has no such size, like bitmap fonts of emoji."""
    from PIL import ImageFont  # noqa: PLC0415 - only the sheet needs it

    try:
        return ImageFont.truetype(str(path), size)
    except OSError:
        return None
