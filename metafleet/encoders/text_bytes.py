"""Texts as the decoder stores them: UTF-8 bytes with zeros after the end."""

from metafleet.encoders.base import Array
from metafleet.errors import ConfigError

TEXT_BYTES = 4096
"""Bytes that are kept of a text for an encoder: more than most encoders take tokens for."""


def read_texts(items: Array) -> list[str]:
    """Return the texts of uint8 [n, bytes]."""
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in items]


def require_text(encoder: str, shape: tuple[int, ...]) -> None:
    """Refuse what is no row of bytes.

    Raises:
        ConfigError: says what the encoder takes.
    """
    if len(shape) != 1:
        raise ConfigError(f"encoder {encoder!r} takes texts; found items of shape {list(shape)}")
