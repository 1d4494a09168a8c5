"""Forms of an item that a web page can show: pictures, a drawing, a text, a sound, numbers."""

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.drawing import FIRST, blend, spread

if TYPE_CHECKING:
    from PIL.Image import Image

Values = npt.NDArray[Any]
LONGEST_SIDE: Final = 112
"""Larger pictures are scaled down to this number of pixels."""
_MOST_POINTS: Final = 160
"""Maximum number of points of a curve."""
_WIDTH, _HEIGHT = 120, 56
_MARGIN: Final = 4


@dataclass(frozen=True, slots=True)
class Shown:
    """An item in forms that a page can show. A form that an item does not have is empty.

    Attributes:
        pictures: PNG files: one picture, or the frames of a clip.
        drawing: an SVG element, for curves and pen strokes.
        text: a text, unescaped.
        sound: a WAV file.
        numbers: the values of a table's row.
    """

    pictures: tuple[bytes, ...] = ()
    drawing: str = ""
    text: str = ""
    sound: bytes = b""
    numbers: tuple[float, ...] = ()


def png(picture: "Image") -> bytes:
    """Return a PNG file. Pictures with sides longer than ``LONGEST_SIDE`` are scaled down."""
    file = io.BytesIO()
    if max(picture.size) > LONGEST_SIDE:
        picture = picture.copy()
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


def picture_of(pixels: Values) -> "Image":
    """Return [height, width] with 255 as black, or [channels, height, width] with 255 as light."""
    from PIL import Image  # noqa: PLC0415 - optional

    if pixels.ndim == 2:
        return Image.fromarray(255 - pixels)
    if pixels.shape[0] == 1:
        return Image.fromarray(np.ascontiguousarray(pixels[0]))
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def wav(samples: Values, rate_hz: int) -> bytes:
    """Return a WAV file, 16 bits, mono. Samples outside [-1, 1] are clipped."""
    whole = np.round(np.clip(samples.astype(np.float64), -1.0, 1.0) * 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate_hz)
        sound.writeframes(whole.tobytes())
    return file.getvalue()


def curves_svg(curves: Values) -> str:
    """Draw [time, channels] as SVG, a line for each channel, the first blue, the last red.

    All channels have the same scale. Long curves are thinned.
    """
    heights = spread(curves.astype(np.float64))
    chosen = np.linspace(0, len(heights) - 1, min(len(heights), _MOST_POINTS)).round().astype(int)
    xs = _MARGIN + (_WIDTH - 2 * _MARGIN) * chosen / max(1, len(heights) - 1)
    ys = _MARGIN + (_HEIGHT - 2 * _MARGIN) * (1 - heights[chosen])
    last = max(1, heights.shape[1] - 1)
    lines = [
        f'<polyline points="{_points(xs, ys[:, channel])}" stroke="{_colour(channel / last)}"/>'
        for channel in range(heights.shape[1])
    ]
    return _svg(_WIDTH, _HEIGHT, lines)


def waveform_svg(samples: Values) -> str:
    """Draw samples as SVG: a vertical bar from the lowest to the highest sample of each column."""
    columns = np.array_split(samples.astype(np.float64), min(len(samples), _WIDTH))
    peak = max(float(np.abs(samples).max()), 1e-6)
    middle = _HEIGHT / 2
    path = "".join(
        f"M{x} {middle - column.max() / peak * (middle - 2):.1f}"
        f"V{middle - column.min() / peak * (middle - 2) + 0.5:.1f}"
        for x, column in enumerate(columns)
    )
    return _svg(_WIDTH, _HEIGHT, [f'<path d="{path}" stroke="{_colour(0)}" stroke-width="1"/>'])


def strokes_svg(points: Values) -> str:
    """Draw a pen's path as SVG, from [n, 3]: x and y in [0, 1], and 1 at the end of a stroke."""
    side = _HEIGHT * 2 - 2 * _MARGIN
    path, begins = "", True
    for x, y, pen in points.astype(np.float64).tolist():
        path += f"{'M' if begins else 'L'}{_MARGIN + side * x:.1f} {_MARGIN + side * y:.1f}"
        begins = pen > 0
    return _svg(
        _HEIGHT * 2, _HEIGHT * 2, [f'<path d="{path}" stroke="{_colour(0)}" stroke-width="3"/>']
    )


def _svg(width: int, height: int, elements: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" fill="none" '
        f'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">{"".join(elements)}'
        "</svg>"
    )


def _points(xs: Values, ys: Values) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))


def _colour(share: float) -> str:
    red, green, blue = blend(share) if share else FIRST
    return f"#{red:02x}{green:02x}{blue:02x}"
