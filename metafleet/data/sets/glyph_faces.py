"""Draw the raster and the outline of a character with a font face, aligned to each other.

The canvas is 28 x 28 pixels, the em is 22 pixels and the baseline is at pixel 22. A character is
centred horizontally. If the character does not fit with a margin of one pixel, it is moved up or
down. If it still does not fit, it is scaled down. Rasters are drawn at four times the size and
averaged. At this size, hinting moves edges by at most a quarter of a final pixel, so the outline
matches its raster.
"""

import importlib.util
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metafleet.data.strokes import N_POINTS, Points, resample
from metafleet.errors import DataMissingError

SIDE = 28
_OVERSAMPLING = 4
_CANVAS = SIDE * _OVERSAMPLING
_MARGIN = _OVERSAMPLING
_EM = 22 * _OVERSAMPLING
_BASELINE = 22 * _OVERSAMPLING
_ROOM = _CANVAS - 2 * _MARGIN
_CURVE = np.linspace(0.0, 1.0, 6)[1:, None]

# The text faces that matplotlib bundles, except cm*10 (Computer Modern, not encoded as Unicode),
# STIXNonUni* and STIXSiz* (private use, sizes of one sign) and LastResort (boxes only).
FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "DejaVuSansDisplay",
    "DejaVuSerifDisplay",
)

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Placement:
    """Mapping from font units to the oversampled canvas.

    Attributes:
        size: pixels per em.
        scale: pixels per font unit.
        x, baseline: position of the origin.
    """

    size: int
    scale: float
    x: int
    baseline: int


class Face:
    """One font file, read by fontTools (outlines) and FreeType (rasters)."""

    def __init__(self, path: Path) -> None:
        from fontTools.ttLib import TTFont  # noqa: PLC0415 - only preparing needs the decoders

        self._path = path
        table = TTFont(io.BytesIO(path.read_bytes()), lazy=True)  # keeps no file open
        self._glyphs = table["glyf"]
        self._names: dict[int, str] = table.getBestCmap()
        self._em: int = table["head"].unitsPerEm
        self._fonts: dict[int, Any] = {}

    @property
    def codes(self) -> Sequence[int]:
        """Code points that the face has."""
        return list(self._names)

    def draws(self, code: int) -> bool:
        """Return whether the face has the character, with at least one contour."""
        name = self._names.get(code, ".notdef")
        return name != ".notdef" and self._glyphs[name].numberOfContours != 0

    def rasters(self, codes: Sequence[int]) -> Images:
        """Draw characters that the face ``draws``: grey values [n, 28, 28], ink 255."""
        from PIL import Image, ImageDraw  # noqa: PLC0415 - only preparing needs the decoders

        if not codes:
            return np.zeros((0, SIDE, SIDE), np.uint8)
        sheet = Image.new("L", (_CANVAS, _CANVAS * len(codes)))
        draw = ImageDraw.Draw(sheet)
        for row, code in enumerate(codes):
            place = self._place(code)
            at = (place.x, place.baseline + _CANVAS * row)
            draw.text(at, chr(code), fill=255, font=self._font(place.size), anchor="ls")
        return np.asarray(sheet.reduce(_OVERSAMPLING)).reshape(len(codes), SIDE, SIDE)

    def outline(self, code: int) -> npt.NDArray[np.float32]:
        """Return the contours as strokes [64, 3]; see ``metafleet.data.strokes``.

        Each contour starts at its corner nearest to the top left and goes once around. The contours
        are sorted from left to right, so that they are in the same order in all faces.
        """
        place = self._place(code)
        contours = sorted(self._contours(code), key=lambda line: tuple(line.min(axis=0).tolist()))
        if not contours:
            return np.zeros((N_POINTS, 3), np.float32)
        shift = np.array([place.x, place.baseline])
        flip = np.array([place.scale, -place.scale])
        return resample([(line * flip + shift) / _CANVAS for line in contours])

    def _place(self, code: int) -> _Placement:
        glyph = self._glyphs[self._names[code]]
        width, height = glyph.xMax - glyph.xMin, glyph.yMax - glyph.yMin
        size = min(_EM, _ROOM * self._em // max(width, height, 1))
        scale = size / self._em
        x = round((_CANVAS - width * scale) / 2 - glyph.xMin * scale)
        highest = int(np.ceil(_MARGIN + glyph.yMax * scale))
        lowest = int(np.floor(_CANVAS - _MARGIN + glyph.yMin * scale))
        return _Placement(size, scale, x, max(highest, min(_BASELINE, lowest)))

    def _font(self, size: int) -> Any:
        from PIL import ImageFont  # noqa: PLC0415 - only preparing needs the decoders

        if size not in self._fonts:
            basic = ImageFont.Layout.BASIC  # Raqm is not on every machine
            self._fonts[size] = ImageFont.truetype(self._path, size, layout_engine=basic)
        return self._fonts[size]

    def _contours(self, code: int) -> list[Points]:
        glyph = self._glyphs[self._names[code]]
        coordinates, ends, flags = glyph.getCoordinates(self._glyphs)
        points = np.array(coordinates.array).reshape(-1, 2)
        on_curve = np.frombuffer(bytes(flags), np.uint8) & np.uint8(1)
        spans = itertools.pairwise([0, *(end + 1 for end in ends)])
        return [_flatten(points[a:b], on_curve[a:b]) for a, b in spans if b - a >= 2]


def _flatten(points: Points, on_curve: npt.NDArray[np.uint8]) -> Points:
    """Convert a closed TrueType contour [n, 2] to a polyline from its top left on-curve point.

    Between two adjacent control points, the curve passes through an on-curve point that the font
    does not store.
    """
    following = np.arange(len(points)) + 1 - len(points)  # negative: wraps around
    implied = (on_curve == 0) & (on_curve[following] == 0)
    spread = np.repeat(points, 1 + implied, axis=0)
    kind = np.repeat(on_curve, 1 + implied)
    slots = np.flatnonzero(implied) + np.cumsum(implied)[implied]
    spread[slots] = (points[implied] + points[following[implied]]) / 2
    kind[slots] = 1
    anchors = np.flatnonzero(kind)
    corner = anchors[np.argmin(spread[anchors, 0] - spread[anchors, 1])]
    from_corner = np.arange(len(kind)) + corner - len(kind)
    spread, kind = spread[from_corner], kind[from_corner]
    off = np.flatnonzero(kind == 0)
    counts = np.where(kind == 1, 1, len(_CURVE))
    line = np.repeat(spread, counts, axis=0)
    before, control = spread[off - 1, None], spread[off, None]
    after = spread[(off + 1) % len(spread), None]  # [n_off, 1, 2]
    curves = (1 - _CURVE) ** 2 * before + 2 * _CURVE * (1 - _CURVE) * control + _CURVE**2 * after
    begins = (np.cumsum(counts) - counts)[off]
    line[begins[:, None] + np.arange(len(_CURVE))] = curves
    return np.concatenate([line, spread[:1]])


def font_folder() -> Path:
    """Return the folder of the fonts that matplotlib bundles, without importing matplotlib.

    Raises:
        DataMissingError: matplotlib is not installed or has no fonts.
    """
    spec = importlib.util.find_spec("matplotlib")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "mpl-data" / "fonts" / "ttf"
        if (folder / f"{FACES[0]}.ttf").is_file():
            return folder
    raise DataMissingError(
        "data set 'glyphs' draws with the fonts that matplotlib bundles, and they are not here; "
        "run `pip install 'metafleet[data]'`"
    )
