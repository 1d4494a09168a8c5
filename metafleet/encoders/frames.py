"""Use an encoder of pictures as an encoder of clips."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder


class Frames(PretrainedEncoder):
    """Encodes each frame of a clip as a picture, and averages the features over the frames.

    Args:
        encoder: an encoder of pictures.
    """

    kinds = frozenset(("video",))
    batch_items = 4

    def __init__(self, encoder: PretrainedEncoder) -> None:
        self.name, self._encoder = encoder.name, encoder
        self.packaged = encoder.packaged

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for frames in the form that the encoder takes."""
        return self._encoder.reading("image")

    def identity(self) -> Mapping[str, Any]:
        """Return the identity of the encoder, and how frames are pooled."""
        return {**self._encoder.identity(), "frames": "mean"}

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of a frame."""
        return self._encoder.n_features(shape[1:])

    def encode(self, items: Array) -> Array:
        """Encode clips uint8 [n, frames, channels, side, side]."""
        flat = items.reshape(-1, *items.shape[2:])
        size = self._encoder.batch_items
        parts = [flat[start : start + size] for start in range(0, len(flat), size)]
        rows = np.concatenate([self._encoder.encode_part(part) for part in parts])
        found: Array = rows.reshape(*items.shape[:2], -1).mean(axis=1)
        return found

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return self._encoder.licence
