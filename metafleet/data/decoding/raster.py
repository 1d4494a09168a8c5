"""Convert pictures to pixels with uniform colours and size and without transparency."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from metafleet.data.decoding.base import import_library
from metafleet.data.decoding.depth import (
    Range,
    check_range,
    deep_values,
    has_deep_colours,
    is_deep,
    to_eight_bits,
)
from metafleet.errors import DecodeError
from metafleet.options import require

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

MAX_PIXELS = 1 << 26
"""Maximum size of a stored picture or frame: 8192 x 8192; larger ones are treated as an attack."""
MAX_SIDE = 1024
Fit = Literal["crop", "pad", "stretch", "center"]
Resample = Literal["bilinear", "bicubic", "lanczos"]
Pixels = npt.NDArray[np.uint8]
_PAPER = 255
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")


@dataclass(frozen=True, slots=True)
class Frame:
    """The size and colours to which pictures are converted.

    Attributes:
        side: height and width of the result, in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: how a picture becomes square. "crop" takes the middle square, "pad" adds white, and
            "stretch" resizes both sides. "center" resizes the shorter side to ``side`` /
            ``crop_share`` and crops the middle, as torchvision does.
        range: the values that become black and white, in pictures of more than 8 bits; see
            ``depth.Range``.
        crop_share: with ``fit`` "center", the share of the shorter side that is kept, in (0, 1].
        resample: method for resizing.
    """

    side: int
    channels: int
    fit: Fit
    range: Range = "dtype"
    crop_share: float = 1.0
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        require(1 <= self.side <= MAX_SIDE, "side", self.side, f"1 to {MAX_SIDE}")
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        check_range(self.range)
        is_share = 0.0 < self.crop_share <= 1.0
        require(is_share, "crop_share", self.crop_share, "more than 0, 1 at most")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return [channels, height, width]."""
        return (self.channels, self.side, self.side)


def pillow() -> None:
    """Check that Pillow is installed.

    Raises:
        DataMissingError: Pillow is not installed.
    """
    import_library("PIL.Image", package="Pillow", extra="data")


@contextlib.contextmanager
def opened(source: bytes) -> Iterator["Image"]:
    """Open a picture and check its size before any pixel is decoded.

    Raises:
        DecodeError: the bytes are not a picture of a known format, or the picture is damaged or too
            large.
    """
    pillow()
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - optional

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata; sizes are checked here
        try:
            with Image.open(io.BytesIO(source), formats=_FORMATS) as image:
                check_size(*image.size)
                yield image
        except UnidentifiedImageError:
            raise DecodeError(
                f"it is no picture of a known format ({len(source)} bytes); "
                f"expected one of {', '.join(_FORMATS)}"
            ) from None
        except Image.DecompressionBombError as error:
            raise DecodeError(f"the picture is too large: {error}") from error
        except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise DecodeError(f"the picture is damaged: {why}") from error


def check_size(width: int, height: int) -> None:
    """Check that a picture has pixels, and not too many.

    Raises:
        DecodeError: the picture has no pixels or too many.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DecodeError(
            f"the picture has {width}x{height} pixels; expected 1 to {MAX_PIXELS} in all"
        )


def require_range(image: "Image", chosen: Range) -> None:
    """Check that a range can be applied to a picture. Call this before the picture is loaded.

    Raises:
        DecodeError: the picture has 16 bits per colour, and Pillow would drop 8 of them before the
            range is applied.
    """
    if chosen != "dtype" and has_deep_colours(image):
        raise DecodeError(
            "the picture has 16 bits a colour, of which Pillow reads the upper 8; expected grey, "
            'or range = "dtype"'
        )


def to_pixels(image: "Image", frame: Frame) -> Pixels:
    """Convert a picture to [channels, side, side]; transparent parts become white."""
    flat = _flat(image, "L" if frame.channels == 1 else "RGB", frame.range)
    if frame.fit == "center":
        pixels = np.asarray(_centre(flat, frame))
    else:
        size = (frame.side, frame.side)
        pixels = np.asarray(_fitted(flat, frame).resize(size, _filter(frame)))
    return pixels[None] if frame.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _centre(image: "Image", frame: Frame) -> "Image":
    """Resize the shorter side, then crop the middle square."""
    scale = round(frame.side / frame.crop_share) / min(image.size)
    width, height = (max(frame.side, int(side * scale)) for side in image.size)
    left, top = round((width - frame.side) / 2), round((height - frame.side) / 2)
    resized = image.resize((width, height), _filter(frame))
    return resized.crop((left, top, left + frame.side, top + frame.side))


def _filter(frame: Frame) -> "Resampling":
    from PIL import Image  # noqa: PLC0415 - optional

    return Image.Resampling[frame.resample.upper()]


def _flat(image: "Image", mode: str, chosen: Range) -> "Image":
    from PIL import Image  # noqa: PLC0415 - optional

    if is_deep(image):  # convert("L") would clip the values at 255
        return Image.fromarray(to_eight_bits(deep_values(image), chosen)).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (_PAPER, _PAPER, _PAPER, _PAPER))
        image = Image.alpha_composite(paper, image)
    return image.convert(mode)


def _fitted(image: "Image", frame: Frame) -> "Image":
    """Crop or pad the picture to a square of any size; return it unchanged for "stretch"."""
    from PIL import Image  # noqa: PLC0415 - optional

    width, height = image.size
    if frame.fit == "stretch" or width == height:
        return image
    if frame.fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.crop((left, top, left + side, top + side))
    long = frame.side / max(width, height)
    small = (max(1, round(width * long)), max(1, round(height * long)))
    paper = (_PAPER,) * len(image.getbands())
    square = Image.new(image.mode, (frame.side, frame.side), paper if len(paper) > 1 else _PAPER)
    left, top = (frame.side - small[0]) // 2, (frame.side - small[1]) // 2
    square.paste(image.resize(small, Image.Resampling.BILINEAR), (left, top))
    return square
