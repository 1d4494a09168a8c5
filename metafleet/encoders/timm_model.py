"""Models of timm in a folder: ``config.json`` and ``model.safetensors``.

Weights are read as the library timm reads them, with two exceptions: pickles are refused, and the
file must have every tensor of the model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from metafleet.encoders.base import Array
from metafleet.encoders.folder_encoder import FolderEncoder
from metafleet.encoders.graph_part import GraphPart, on_cpu
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.model_folder import on_meta, require_room
from metafleet.encoders.picture_part import picture_part
from metafleet.encoders.pixels import PixelRule
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import device, encoder_library
from metafleet.errors import ConfigError
from metafleet.options import parse_record

INSTALL: Final = "pip install 'metafleet[timm]'"
_POOLINGS: Final = {"class_token": "token", "mean": "avg", "max": "max"}
_RESAMPLE: Final = ("bilinear", "bicubic", "lanczos")
_LEAST_SHARE: Final = 0.01
"""Smallest share of a picture that is kept; a smaller one is damage."""


class TimmImages(FolderEncoder):
    """Encodes pictures. The default pooling is the model's own."""

    source = "timm"
    libraries = ("torch", "timm")

    def __init__(self, name: str, place: str, kind: str, pooling: str = "") -> None:
        super().__init__(name, place, kind, pooling)
        if pooling:
            choose_pooling(name, pooling, tuple(_POOLINGS))

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for pictures that are resized and cropped as in training."""
        return self._rule.reading()

    def identity(self) -> Mapping[str, Any]:
        """Return digests and versions."""
        return {**super().identity(), "preprocessing": self._rule.to_json()}

    def encode(self, items: Array) -> Array:
        """Encode pictures uint8 [n, 3, side, side]."""
        with torch.inference_mode():
            found = self._model(self._rule.normalised(items).to(device()))
            return np.ascontiguousarray(found.flatten(1).float().cpu().numpy())

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return normalisation and network."""
        return picture_part(self._rule, on_cpu(self._model))

    @loaded_once
    def _rule(self) -> PixelRule:
        with self._folder.loading():
            data = self._library.data.resolve_model_data_config(self._shell)
        return rule_of(self.name, data)

    @loaded_once
    def _library(self) -> Any:
        return encoder_library("timm", encoder=self.name, install=INSTALL)

    @loaded_once
    def _shell(self) -> nn.Module:
        """The network without its weights, which takes no memory."""
        folder = self._folder.checked()
        self._folder.require_depth(self._folder.find_json("config.json"))
        with self._folder.loading(), on_meta():
            return self._library.create_model(f"local-dir:{folder}", pretrained=False)  # type: ignore[no-any-return]

    @loaded_once
    def _model(self) -> nn.Module:
        folder = self._folder.checked()
        require_room(self.name, self._shell)
        own = {
            "file": str(self._folder.weights("model.safetensors")),
            "source": "",
            "state_dict": None,
            "custom_load": False,
        }
        with self._folder.loading():
            # with its classifier, because timm checks nothing when that is replaced on loading
            model = self._library.create_model(
                f"local-dir:{folder}", pretrained=True, pretrained_cfg_overlay=own
            )
        try:
            model.reset_classifier(0, *([_POOLINGS[self._pooling]] if self._pooling else []))
        except Exception as error:  # of each architecture another
            raise ConfigError(
                f"pooling={self._pooling!r}; encoder {self.name!r} has no such pooling ({error}); "
                "leave it out"
            ) from error
        return model.float().eval().to(device())  # type: ignore[no-any-return]

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        self._rule.require_shape(self.name, shape)

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return np.zeros((1, *shape), np.uint8)


@dataclass(frozen=True, slots=True)
class _Settings:
    """The preprocessing as timm names it."""

    input_size: tuple[int, ...]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    crop_mode: str


def rule_of(encoder: str, data: Mapping[str, Any]) -> PixelRule:
    """Return the preprocessing that ``resolve_model_data_config`` describes.

    Raises:
        ConfigError: pictures are not square, the preprocessing is not supported, or a value is of
            the wrong type or out of range.
    """
    where = f"encoder {encoder!r}: config.json"
    known = {name: data[name] for name in (each.name for each in fields(_Settings)) if name in data}
    found = parse_record(_Settings, known, where=where, error=ConfigError)
    share, mode, sides = found.crop_pct, found.crop_mode, set(found.input_size[1:])
    is_square = len(found.input_size) == 3 and found.input_size[0] == 3 and len(sides) == 1
    is_cropped = (mode == "center" and _LEAST_SHARE <= share <= 1.0) or (
        mode == "squash" and share == 1.0
    )
    if not is_square or not is_cropped or found.interpolation not in _RESAMPLE:
        names = ("input_size", "interpolation", "crop_pct", "crop_mode")
        shown = ", ".join(f"{name}={known[name]!r:.60}" for name in names)
        raise ConfigError(
            f"encoder {encoder!r} takes pictures by {shown}; expected square ones of three "
            f"colours, resized and cropped in the middle, and crop_pct {_LEAST_SHARE} to 1; use a "
            "class of your own"
        )
    (side,) = sides
    return PixelRule.checked(
        where,
        side=side,
        crop_share=side / max(1, math.floor(side / share)),  # timm rounds the resized side down
        resample=found.interpolation,
        mean=found.mean,
        std=found.std,
        fit="center" if mode == "center" else "stretch",
    )
