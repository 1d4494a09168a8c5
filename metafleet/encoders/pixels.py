"""How an image encoder wants its pictures: size, crop, and what is subtracted and divided by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from metafleet.encoders.base import Array


@dataclass(frozen=True, slots=True)
class PixelRule:
    """Preprocessing of pictures.

    Attributes:
        side: height and width, in pixels.
        crop_share: the shorter side is resized to ``side`` / crop_share, and the middle cropped;
            (0, 1].
        resample: how pictures are resized: "bilinear", "bicubic" or "lanczos".
        mean, std: of red, green and blue in [0, 1]: subtracted, then divided by.
        fit: "center" as above, or "stretch" the whole picture to the square.
    """

    side: int
    crop_share: float
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "center"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a decoded picture."""
        return (3, self.side, self.side)

    def reading(self) -> Mapping[str, Any]:
        """Return the options of the decoders of images and clips that make such pictures."""
        return {
            "side": self.side,
            "channels": 3,
            "fit": self.fit,
            "crop_share": self.crop_share,
            "resample": self.resample,
        }

    def normalised(self, pictures: Array) -> Tensor:
        """Return float32 [n, 3, side, side] of uint8 pictures of the same shape."""
        mean, std = (torch.tensor(it).reshape(3, 1, 1) for it in (self.mean, self.std))
        return (torch.from_numpy(pictures).float() / 255.0 - mean) / std

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)
