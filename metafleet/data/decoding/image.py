"""Pictures: uint8 [channels, height, width]."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.data.decoding.depth import Range
from metafleet.data.decoding.raster import Fit, Frame, opened, pillow, require_range, to_pixels


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Options of ``ImageDecoder``.

    Attributes:
        side: height and width in pixels, 1 to 1024.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: "crop" the middle square, "pad" to a square with white, or "stretch".
        range: which values of a grey picture of more than 8 bits become black and white: "dtype", 0
            and 65535; "file", the least and the most of each picture; "data", those of all pictures
            that are imported; or two numbers, beyond which values are cut off.
    """

    side: int = 32
    channels: int = 3
    fit: Fit = "crop"
    range: Range = "dtype"

    def __post_init__(self) -> None:
        _ = self.frame  # checks the ranges

    @property
    def frame(self) -> Frame:
        """How the picture is made uniform."""
        return Frame(self.side, self.channels, self.fit, self.range)


class ImageDecoder:
    """Reads pictures; of an animated one, the first frame. Turned upright as the camera noted."""

    kind = "image"
    version = 1
    suffixes = frozenset(
        (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
    )
    Options = ImageOptions

    def check(self, options: ImageOptions) -> None:
        """Make sure that Pillow is installed."""
        pillow()

    def is_quick(self, options: ImageOptions) -> bool:
        """Return False."""
        return False

    def example(self, options: ImageOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return uint8 [channels, side, side]."""
        return np.dtype(np.uint8), options.frame.shape

    def decode(self, source: bytes, options: ImageOptions) -> Array:
        """Decode a picture, transparency shown on white."""
        with opened(source) as image:
            from PIL import ImageOps  # noqa: PLC0415 - optional

            require_range(image, options.range)
            image.load()
            return to_pixels(ImageOps.exif_transpose(image), options.frame)
