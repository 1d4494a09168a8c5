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
        n_others = 0
        if rows.ndim == 4:  # of a convolutional network: [n, features, height, width]
            rows = rows.flatten(2).transpose(1, 2)
        else:
            n_others = _n_before_patches(self._model)
        pooling = self._pooling or ("class_token" if n_others else "mean")
        if pooling == "class_token" and not n_others:
            raise ConfigError(
                f"pooling='class_token'; encoder {self.name!r} has none; expected 'mean' or 'max'"
            )
        if pooling in ("mean", "max"):
            rows = rows[:, n_others:]
        return self.pooled(rows, pooler, None, default=pooling)

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        self._rule.require_shape(self.name, shape)

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return np.zeros((1, *shape), np.uint8)


def _n_before_patches(model: nn.Module) -> int:
    """Return the number of rows before those of patches: class token, registers and others."""
    names = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    if names.isdisjoint(("cls_token", "class_embedding")):
        return 0
    config: Any = model.config
    return 1 + getattr(config, "num_register_tokens", 0) + ("distillation_token" in names)
