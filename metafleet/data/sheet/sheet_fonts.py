"""Fonts for whatever script the labels and texts of a sheet are in."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metafleet.data.sets.glyph_faces import font_folder
from metafleet.errors import DataMissingError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

_SHOWN = 8
_BOXES_ALONE = "lastresort"  # has a box for every character, and so a glyph


class SheetFonts:
    """Finds a font that has a text's characters; one for each sheet, as it keeps what was drawn."""

    def __init__(self) -> None:
        self._boxes: dict[str, None] = {}
        self._nowhere: set[str] = set()
        self._chosen: list[Path] = []  # fonts of earlier texts: the next one is likely in the same
        self._others: list[Path] | None = None

    def load(self, text: str, size: int) -> "Font":
        """Return the font for a text: that of most scripts if it has all, else the best here."""
        from PIL import ImageFont  # noqa: PLC0415 - only the sheet needs it

        try:
            plain = font_folder() / "DejaVuSans.ttf"
        except DataMissingError:
            return ImageFont.load_default(size)
        visible = {c for c in text if c.isprintable() and not c.isspace()}
        best = plain if text.isascii() else self._best(plain, visible, size)
        return _load(best, size) or ImageFont.load_default(size)

    def note(self) -> str:
        """Say which characters were drawn as boxes; "" if none was."""
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
        """Return the font that lacks the fewest of these characters; note those it lacks."""
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
    """Return the machine's fonts, plain ones without serifs first."""
    from matplotlib.font_manager import findSystemFonts  # noqa: PLC0415 - a second to import

    def order(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return ("regular" not in name, "sans" not in name, str(path))

    paths = (Path(path) for path in findSystemFonts())
    return sorted((p for p in paths if not p.name.lower().startswith(_BOXES_ALONE)), key=order)


def _lacking(path: Path, characters: set[str]) -> set[str]:
    """Return those of the characters for which a font has no glyph; all if it cannot be read."""
    if not characters:
        return set()
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415 - a second to import

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):
        return characters
    return {c for c in characters if not font.get_char_index(ord(c))}


def _load(path: Path, size: int) -> "Font | None":
    """Load a font; None where it cannot be drawn with at this size, as pictures of emoji."""
    from PIL import ImageFont  # noqa: PLC0415 - only the sheet needs it

    try:
        return ImageFont.truetype(str(path), size)
    except OSError:
        return None
