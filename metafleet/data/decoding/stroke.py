"""Pen sequences: float16 [points, 3], scaled into the unit square; see ``metafleet.data.strokes``.

Four kinds of files are read:

- JSON with a list of strokes, each a list of points [x, y]; further numbers of a point are ignored;
- Quick, Draw!'s JSON, where "drawing" is a list of strokes, each [xs, ys] or [xs, ys, ts];
- npy [n, 3] with x, y, and a third column that is 1 at the last point of each stroke;
- InkML with traces of x and y.

In all four kinds of files, y points down.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.base import Array, Decoder
from metafleet.data.decoding.drawing import PAPER, SMOOTH, TILE, blend
from metafleet.data.decoding.npy import MAGIC, read_npy
from metafleet.data.decoding.shown import Shown, strokes_svg
from metafleet.data.strokes import resample
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DecodeError
from metafleet.options import require

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

MAX_SOURCE_BYTES = 1 << 22
MAX_POINTS = 1 << 12
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StrokeOptions(EncoderChoice):
    """Options of ``StrokeDecoder``.

    Attributes:
        points: number of points to which the pen's path is resampled, 2 to 4096.
    """

    points: int = 64

    def __post_init__(self) -> None:
        self.check_encoder()
        require(2 <= self.points <= MAX_POINTS, "points", self.points, f"2 to {MAX_POINTS}")


class StrokeDecoder(Decoder):
    """Reads one drawing and fits it into the unit square, keeping its proportions."""

    kind = "stroke"
    version = 1
    suffixes = frozenset((".json", ".npy", ".inkml"))
    Options = StrokeOptions
    default_encoder = "conv1d"
    problem = "a drawing without points, or damaged"
    is_in_every_recipe = True

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the number of points."""
        return {"points": shape[0]}

    def example(self, options: StrokeOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return float16 [points, 3]."""
        return np.dtype(np.float16), (options.points, 3)

    def decode(self, source: bytes, options: StrokeOptions) -> Array:
        """Read a drawing: x, y, and 1 at the last point of each stroke."""
        if len(source) > MAX_SOURCE_BYTES:
            raise DecodeError(
                f"the drawing has {len(source)} bytes; expected at most {MAX_SOURCE_BYTES}"
            )
        lines = _fitted(_read(source))
        return resample(lines, options.points).astype(np.float16)

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw the pen's path, from blue to red, with a dot where each stroke begins."""
        from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

        side = TILE * SMOOTH
        tile = Image.new("RGB", (side, side), PAPER)
        draw = ImageDraw.Draw(tile)
        points = item.astype(np.float64)
        begins = True
        for index in range(len(points)):
            x, y, pen = points[index] * (side, side, 1)
            colour = blend(index / (len(points) - 1))
            if not begins:
                before = points[index - 1] * side
                draw.line((before[0], before[1], x, y), fill=colour, width=round(1.6 * SMOOTH))
            else:
                radius = 2 * SMOOTH
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
            begins = pen > 0
        return tile.resize((TILE, TILE), Image.Resampling.LANCZOS)

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return the pen's path."""
        return Shown(drawing=strokes_svg(item))


def _read(source: bytes) -> list[Points]:
    if source.startswith(MAGIC):
        lines = _read_npy(source)
    elif source.lstrip()[:1] == b"<":
        lines = _read_inkml(source)
    else:
        lines = _read_json(source)
    lines = [line for line in lines if len(line)]  # InkML has traces without points
    if not lines:
        raise DecodeError("the drawing has no strokes")
    for number, line in enumerate(lines):
        if not np.isfinite(line).all() or np.abs(line).max() > 1e9:
            raise DecodeError(f"stroke {number} has a point that is not finite or beyond 1e9")
    return lines


def _read_json(source: bytes) -> list[Points]:
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the drawing is no JSON, npy or InkML: {error}") from error
    is_quick_draw = isinstance(value, dict)
    strokes = value.get("drawing") if is_quick_draw else value
    if not isinstance(strokes, list):
        raise DecodeError("the drawing is no list of strokes; expected [[[x, y], ...], ...]")
    return [_line(number, s, by_column=is_quick_draw) for number, s in enumerate(strokes)]


def _line(number: int, stroke: object, *, by_column: bool) -> Points:
    try:
        points = np.array(stroke, np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.zeros(0)
    points = points.T if by_column else points
    if points.ndim != 2 or points.shape[0] < 1 or points.shape[1] < 2:
        raise DecodeError(f"stroke {number} is no list of points; expected [[x, y], ...]")
    return points[:, :2]


def _read_npy(source: bytes) -> list[Points]:
    points = np.asarray(read_npy(source), np.float64)
    if points.ndim != 2 or points.shape[0] < 1 or points.shape[1] != 3:
        raise DecodeError(f"the drawing is an array {list(points.shape)}; expected [n, 3]")
    ends = np.flatnonzero(points[:, 2] > 0) + 1
    return [line for line in np.split(points[:, :2], ends) if len(line)]


def _read_inkml(source: bytes) -> list[Points]:
    if b"<!DOCTYPE" in source or b"<!ENTITY" in source:
        raise DecodeError(
            "the InkML declares entities, which are not expanded here; leave them out"
        )
    try:
        root = ET.fromstring(source)
    except ET.ParseError as error:
        raise DecodeError(f"the InkML cannot be read: {error}") from error
    traces = [node.text or "" for node in root.iter() if node.tag.rsplit("}", 1)[-1] == "trace"]
    return [_trace(number, text) for number, text in enumerate(traces)]


def _trace(number: int, text: str) -> Points:
    try:
        points = [_point(point) for point in text.split(",")] if text.strip() else []
        return np.array(points, np.float64).reshape(-1, 2)
    except ValueError as error:
        raise DecodeError(
            f"trace {number} is no list of points; expected 'x y, x y, ...' in full numbers"
        ) from error


def _point(text: str) -> tuple[float, float]:
    x, y, *_ = map(float, text.split())  # ValueError with fewer than two
    return x, y


def _fitted(lines: Sequence[Points]) -> list[Points]:
    """Scale and shift so that the longer side fills the unit square and the other is centred."""
    every = np.concatenate(lines)
    low, extent = every.min(axis=0), np.ptp(every, axis=0)
    scale = 1.0 / extent.max() if extent.max() > 0 else 1.0
    shift = (1.0 - extent * scale) / 2
    return [(line - low) * scale + shift for line in lines]
