"""The preprocessing that an image encoder needs: size, crop and normalisation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.encoders.base import Array
from metafleet.errors import ConfigError
from metafleet.options import parse_record, require

_MOST_SIDE: Final = 1024
_RESAMPLE: Final = ("bilinear", "bicubic", "lanczos")
_FIT: Final = ("center", "stretch")


@dataclass(frozen=True, slots=True)
class PixelRule:
    """Preprocessing of pictures.

    Attributes:
        side: height and width in pixels, 1 to 1024.
        crop_share: with ``fit`` "center", the shorter side is resized to ``side`` / crop_share, and
            the central square is cropped; in (0, 1].
        resample: the method for resizing: "bilinear", "bicubic" or "lanczos".
        mean, std: three numbers each, for red, green and blue. A value v in [0, 1] becomes
            (v - mean) / std, where std > 0.
        fit: "center" crops as described above; "stretch" resizes the whole picture to the square.
    """

    side: int
    crop_share: float
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "center"

    def __post_init__(self) -> None:
        require(1 <= self.side <= _MOST_SIDE, "side", self.side, f"1 to {_MOST_SIDE} pixels")
        require(0.0 < self.crop_share <= 1.0, "crop_share", self.crop_share, "above 0, at most 1")
        require(self.resample in _RESAMPLE, "resample", self.resample, f"one of {_RESAMPLE}")
        require(self.fit in _FIT, "fit", self.fit, f"one of {_FIT}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            require(len(values) == 3, name, list(values), "three numbers")
        require(all(value > 0 for value in self.std), "std", list(self.std), "numbers above 0")

    @classmethod
    def checked(cls, where: str, **values: Any) -> "PixelRule":
        """Return the preprocessing that a file describes.

        Args:
            where: the encoder and the file, for messages.
            values: the attributes of ``PixelRule``, as JSON values.

        Raises:
            ConfigError: a value is of the wrong type or out of range.
        """
        return parse_record(cls, values, where=where, error=ConfigError)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a decoded picture."""
        return (3, self.side, self.side)

    def require_shape(self, encoder: str, shape: tuple[int, ...]) -> None:
        """Check that decoded pictures have ``shape``.

        Raises:
            ConfigError: the pictures have another shape.
        """
        if shape != self.shape:
            raise ConfigError(f"encoder {encoder!r} takes {list(self.shape)}; found {list(shape)}")

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
        return self.scaled(torch.from_numpy(pictures).float() / 255.0)

    def scaled(self, pictures: Tensor) -> Tensor:
        """Normalise pictures [n, 3, side, side] in [0, 1]."""
        mean, std = (torch.tensor(it).reshape(3, 1, 1) for it in (self.mean, self.std))
        return (pictures - mean) / std

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)
