"""Encode pictures with a model of transformers, preprocessed as preprocessor_config.json says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metafleet.encoders.base import Array
from metafleet.encoders.graph_part import Calling, GraphPart
from metafleet.encoders.hf_model import HfModel, as_array
from metafleet.encoders.hf_pixels import rule_of
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.picture_part import picture_part
from metafleet.encoders.pixels import PixelRule
from metafleet.errors import ConfigError


class HfImages(HfModel):
    """Encodes pictures. The default pooling is the class token, or else the mean."""

    tower, takes = "get_image_features", "pixel_values"

    @loaded_once
    def _rule(self) -> PixelRule:
        return rule_of(self.name, self._preprocessing())

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for pictures that are resized and cropped as in training."""
        return self._rule.reading()

    def identity(self) -> Mapping[str, Any]:
        """Return digests and versions."""
        return {**super().identity(), "preprocessing": self._rule.to_json()}

    def encode(self, items: Array) -> Array:
        """Encode pictures uint8 [n, 3, side, side]."""
        with torch.inference_mode():
            return as_array(self._features(self._rule.normalised(items)))

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return normalisation, model and pooling."""
        twin = self._on_cpu()
        return picture_part(self._rule, Calling(twin._model, twin._features))

    def _features(self, pixels: Tensor) -> Tensor:
        rows, pooler = self.run(pixel_values=pixels)
        if rows is None:
            return self.pooled(None, pooler, None)
        if rows.ndim == 4:  # of a convolutional network: [n, features, height, width]
            rows = rows.flatten(2).transpose(1, 2)
        elif self._pooling in ("mean", "max") and _has_class_token(self._model):
            config: Any = self._model.config
            rows = rows[:, 1 + getattr(config, "num_register_tokens", 0) :]
        return self.pooled(rows, pooler, None)

    def _default(self, model: nn.Module) -> str:
        return "class_token" if _has_class_token(model) else "mean"

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self._rule.shape:
            raise ConfigError(
                f"encoder {self.name!r} takes {list(self._rule.shape)}; found {list(shape)}"
            )

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return np.zeros((1, *shape), np.uint8)


def _has_class_token(model: nn.Module) -> bool:
    names = (name.rpartition(".")[2] for name, _ in model.named_parameters())
    return any(name in ("cls_token", "class_embedding") for name in names)
