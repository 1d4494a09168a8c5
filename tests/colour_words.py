"""An encoder with a text tower that needs no weights: colours of pictures, and their names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.text_bytes import read_texts

TOWERS = "package:colour-words"
RGB = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "dark grey": (60, 60, 60),
    "light grey": (200, 200, 200),
    "yellow": (220, 210, 30),
    "cyan": (30, 210, 220),
    "magenta": (210, 30, 200),
}
"""The colours that the towers know. The greys differ in lightness only."""


class ColourWords(PretrainedEncoder):
    """Maps a picture and the name of its colour to similar directions, with an offset in between.

    Each feature but the last is the similarity to one colour. The last one has the value 1 in
    pictures, and 2 in texts.
    """

    name, kinds = TOWERS, frozenset(("image", "text"))
    weights = "a" * 64
    logit_scale = 20.0

    def __init__(self, pooling: str = "") -> None: ...

    def reading(self, kind: str) -> Mapping[str, Any]:
        return {"max_bytes": 64} if kind == "text" else {"side": 8, "channels": 3}

    def identity(self) -> Mapping[str, Any]:
        return {"weights": {"words": self.weights}}

    def n_features(self, shape: tuple[int, ...]) -> int:
        return 1 + len(RGB)

    def too_long(self, items: Array) -> int:
        return sum(len(text.split()) > 8 for text in read_texts(items))

    def encode(self, items: Array) -> Array:
        if items.ndim == 2:
            rows = [[0.1 + (word in text) for word in RGB] for text in read_texts(items)]
            return np.asarray([[*row, 2.0] for row in rows], np.float32)
        pixels = items.mean(axis=(2, 3), dtype=np.float32)[:, None]
        apart = np.square((pixels - np.asarray(list(RGB.values()), np.float32)) / 100).sum(axis=2)
        return np.concatenate([np.exp(-apart), np.ones((len(items), 1))], axis=1).astype(np.float32)


def draw(folder: Path, colours: Mapping[str, tuple[int, ...]], *, n: int, seed: int) -> Path:
    """Write noisy pictures of a colour into a folder for each class."""
    random = np.random.default_rng(seed)
    for label, rgb in colours.items():
        (folder / label.replace(" ", "_")).mkdir(parents=True)
        for item in range(n):
            pixels = np.clip(np.asarray(rgb) + random.normal(0, 25, (8, 8, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(
                folder / label.replace(" ", "_") / f"{item}.png"
            )
    return folder
