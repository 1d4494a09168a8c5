"""The preprocessing that an image encoder needs: size, crop and normalisation."""

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
        crop_share: with ``fit`` "center", the shorter side is resized to ``side`` / crop_share, and
            the central square is cropped; in (0, 1].
        resample: the method for resizing: "bilinear", "bicubic" or "lanczos".
        mean, std: numbers for red, green and blue. From each value in [0, 1], the mean is
            subtracted; the difference is divided by std.
        fit: "center" crops as described above; "stretch" resizes the whole picture to the square.
    """

    side: int
    crop_share: float
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "center"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a decoded picture."""
        return (3, self.side, self.side)

    def reading(self) -> Mapping[str, Any]:
        """Return decoder options, for images and clips, that produce such pictures."""
        return {
            "side": self.side,
            "channels": 3,
            "fit": self.fit,
            "crop_share": self.crop_share,
            "resample": self.resample,
        }

    def normalised(self, pictures: Array) -> Tensor:
        """Normalise uint8 pictures [n, 3, side, side] to float32."""
        mean, std = (torch.tensor(it).reshape(3, 1, 1) for it in (self.mean, self.std))
        return (torch.from_numpy(pictures).float() / 255.0 - mean) / std

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)
