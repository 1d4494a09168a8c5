"""Texts as the decoder stores them: UTF-8 bytes with zeros after the end."""

import numpy as np

from metafleet.encoders.base import Array
from metafleet.errors import ConfigError

TEXT_BYTES = 4096
"""Number of bytes of a text that an encoder gets; most encoders read less."""


def read_texts(items: Array) -> list[str]:
    """Decode texts from uint8 [n, bytes]."""
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in items]


def require_text(encoder: str, shape: tuple[int, ...]) -> None:
    """Check that items are rows of bytes, as texts are.

    Raises:
        ConfigError: the items have another shape.
    """
    if len(shape) != 1:
        raise ConfigError(f"encoder {encoder!r} takes texts; found items of shape {list(shape)}")


def first_text(shape: tuple[int, ...]) -> Array:
    """Return one short text, uint8 [1, bytes]."""
    items = np.zeros((1, *shape), np.uint8)
    items[0, 0] = ord("a")
    return items
