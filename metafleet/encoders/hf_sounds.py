"""Encode sounds with a model of transformers that takes waves, such as wav2vec 2.0 or HuBERT."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metafleet.encoders.base import Array
from metafleet.encoders.hf_model import HfModel, as_array
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.waves import sound_length
from metafleet.errors import ConfigError

_SHORTEST = 1_600
"""Minimum number of samples; a shorter sound includes the silence up to this length."""


class HfSounds(HfModel):
    """Encodes waves. The default pooling is the mean over the sound without trailing silence."""

    tower, takes = "get_audio_features", "input_values"
    batch_items = 8
    poolings = ("mean", "max")

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for waves at the model's sample rate."""
        return {"sample_rate_hz": self._rate_hz, "form": "wave", "place": "start"}

    def encode(self, items: Array) -> Array:
        """Encode waves float32 [n, samples]; zeros at the end are padding."""
        lengths = [sound_length(item, _SHORTEST) for item in items]
        found = self._extractor(
            [np.asarray(item[:n], np.float32) for item, n in zip(items, lengths, strict=True)],
            sampling_rate=self._rate_hz,
            padding="max_length",
            max_length=items.shape[1],
            return_attention_mask=self._is_masked,
            return_tensors="pt",
        )
        with torch.inference_mode():
            rows, pooler = self.run(**found)
            return as_array(self.pooled(rows, pooler, self._frames(rows, lengths)))

    def _frames(self, rows: Tensor | None, lengths: list[int]) -> Tensor | None:
        """Return which rows come from the sound, not from the padding after it: [n, rows]."""
        model: Any = self._model
        if rows is None or not hasattr(model, "_get_feat_extract_output_lengths"):
            return None
        n_rows = model._get_feat_extract_output_lengths(torch.tensor(lengths)).clamp(min=1)
        is_sound: Tensor = torch.arange(rows.shape[1])[None] < n_rows[:, None]
        return is_sound.to(rows.device)

    @loaded_once
    def _settings(self) -> Mapping[str, Any]:
        values = self._preprocessing()
        values = values.get("feature_extractor", values)
        if not isinstance(values.get("sampling_rate"), int):
            raise ConfigError(
                f"encoder {self.name!r}: preprocessor_config.json has no sampling_rate; expected a "
                "model of sounds"
            )
        return values  # type: ignore[no-any-return]

    @property
    def _rate_hz(self) -> int:
        return int(self._settings["sampling_rate"])

    @property
    def _is_masked(self) -> bool:
        return bool(self._settings.get("return_attention_mask", False))

    @loaded_once
    def _extractor(self) -> Any:
        folder = self._folder.checked()
        with self._folder.loading():
            return self._library.AutoFeatureExtractor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 1:
            raise ConfigError(
                f"encoder {self.name!r} takes waves [samples] at {self._rate_hz} Hz; found "
                f"{list(shape)}"
            )
