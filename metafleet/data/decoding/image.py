"""Pictures: uint8 [channels, height, width]."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metafleet.data.decoding.base import Array, Decoder, Readable
from metafleet.data.decoding.depth import Range, Values, deep_values, is_deep
from metafleet.data.decoding.drawing import draw_picture
from metafleet.data.decoding.raster import (
    Fit,
    Frame,
    Resample,
    opened,
    pillow,
    require_range,
    to_pixels,
)
from metafleet.data.decoding.shown import Shown, picture_of, png
from metafleet.data.decoding.views import crop_view
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DecodeError
from metafleet.seeds import CounterRng

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

TIFF = (".tif", ".tiff")
MAY_BE_DEEP = (".png", ".pgm", ".ppm", *TIFF)
"""Suffixes of pictures that may have more than 8 bits per pixel."""


@dataclass(frozen=True, slots=True)
class ImageOptions(EncoderChoice):
    """Options of ``ImageDecoder``.

    Attributes:
        side: height and width in pixels, 1 to 1024.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: how a picture becomes square. "crop" takes the middle square, "pad" adds white, and
            "stretch" resizes both sides. "center" resizes the shorter side to ``side`` /
            ``crop_share`` and crops the middle.
        crop_share: with ``fit`` "center", the share of the shorter side that is kept, in (0, 1].
        resample: method for resizing: "bilinear", "bicubic" or "lanczos".
        range: the values that become black and white, in grey pictures of more than 8 bits. "dtype"
            uses 0 and 65535. "file" uses the smallest and largest value of each picture, and "data"
            uses those of all imported pictures. Two numbers give the values directly. Values
            outside the range are clipped.
    """

    side: int = 32
    channels: int = 3
    fit: Fit = "crop"
    range: Range = "dtype"
    crop_share: float = 1.0
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        self.check_encoder()
        _ = self.frame  # checks the ranges

    @property
    def frame(self) -> Frame:
        """Size and colours of the decoded picture."""
        return Frame(self.side, self.channels, self.fit, self.range, self.crop_share, self.resample)


class ImageDecoder(Decoder):
    """Reads pictures, only the first frame of an animation; applies the camera's orientation."""

    kind = "image"
    version = 1
    suffixes = frozenset(
        (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
    )
    Options = ImageOptions
    default_encoder = "conv4"
    problem = "a picture that is damaged, too large, or not a picture"
    is_pixels = True
    is_picture = True
    is_in_every_recipe = True

    def check(self, options: ImageOptions) -> None:
        """Check that Pillow is installed."""
        pillow()

    def measured(
        self, options: ImageOptions, given: Mapping[str, Any], parts: Iterable[Readable]
    ) -> tuple[ImageOptions, Mapping[str, Any]]:
        """Measure the range of all pictures if the options ask for it."""
        if options.range != "data":
            return options, {}
        found = measure_range(parts)
        return replace(options, range=found), {"range": found}

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return ``side`` and ``channels``."""
        return {"side": shape[-1], "channels": shape[0]}

    def example(self, options: ImageOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return uint8 [channels, side, side]."""
        return np.dtype(np.uint8), options.frame.shape

    def decode(self, source: bytes, options: ImageOptions) -> Array:
        """Decode a picture; transparent parts become white."""
        with opened(source) as image:
            from PIL import ImageOps  # noqa: PLC0415 - optional

            require_range(image, options.range)
            image.load()
            return to_pixels(ImageOps.exif_transpose(image), options.frame)

    def check_views(self, options: ImageOptions, *, flip: bool) -> None:
        """Accept any options."""

    def view(self, item: Array, options: ImageOptions, rng: CounterRng, *, flip: bool) -> Array:
        """Crop and resize the picture, and perhaps mirror it."""
        return crop_view(item, rng, flip=flip, resample=options.resample)

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw the pixels."""
        return draw_picture(item)

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return the picture."""
        return Shown((png(picture_of(item)),))


def measure_range(parts: Iterable[Readable]) -> Range:
    """Return the smallest and largest value of all deep pictures; "dtype" if there are none."""
    spans = [
        (values.min().item(), values.max().item())
        for part in parts
        if (values := _deep_values(part)) is not None
    ]
    if not spans:
        return "dtype"
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    return float(low), float(high if high > low else low + 1)


def _deep_values(part: Readable) -> Values | None:
    """Return the values of a deep picture; None if it is not deep or cannot be read."""
    if not part.name.lower().endswith(MAY_BE_DEEP):
        return None
    with contextlib.suppress(DecodeError), opened(part.read()) as image:
        return deep_values(image) if is_deep(image) else None
    return None
