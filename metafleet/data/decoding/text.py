"""Texts: UTF-8 bytes uint8 [max_bytes], zero-padded; or features of a sentence encoder."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metafleet.data.decoding.base import Array, Decoder
from metafleet.data.decoding.drawing import INK, PAPER, draw_bars, tile_size
from metafleet.data.decoding.shown import Shown
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DecodeError
from metafleet.options import require

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

MAX_SOURCE_BYTES = 1 << 20
MAX_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class TextOptions(EncoderChoice):
    """Options of ``TextDecoder``.

    Attributes:
        encoder: "bytes" stores the text itself, for models that learn from bytes. Any other value
            is the name of a pretrained encoder. "minilm" (English) is short for "package:minilm".
        max_bytes: maximum length in UTF-8 bytes, 1 to 16384. A longer text is truncated between two
            characters.
    """

    encoder: str = "bytes"
    max_bytes: int = 128

    def __post_init__(self) -> None:
        self.check_encoder()
        require(1 <= self.max_bytes <= MAX_BYTES, "max_bytes", self.max_bytes, f"1 to {MAX_BYTES}")


def text_options(encoder: str, choice: EncoderChoice, *, max_bytes: int) -> TextOptions:
    """Return decoder options for a data set that has an option ``encoder`` and a table for texts.

    Args:
        encoder: "bytes", or the name of an encoder if the table does not name one.
        choice: the table.
        max_bytes: maximum length of a text that is stored as bytes.

    Raises:
        ConfigError: both ``encoder`` and the table name an encoder.
    """
    both = encoder != "bytes" and choice.is_encoded
    require(not both, "encoder", encoder, f'"bytes", as text.encoder={choice.encoder!r} is given')
    name = choice.encoder or encoder
    return TextOptions(**(asdict(choice) | {"encoder": name}), max_bytes=max_bytes)


class TextDecoder(Decoder):
    """Reads one text."""

    kind = "text"
    version = 1
    suffixes = frozenset((".txt",))
    Options = TextOptions
    default_encoder = "ngram_bag"
    problem = "a text that is empty, longer than 1 MiB or not UTF-8"
    is_text = True
    is_in_every_recipe = True
    n_squares = 2

    def is_quick(self, options: TextOptions) -> bool:
        """Return True, because bytes are only copied."""
        return True

    def example(self, options: TextOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return uint8 [max_bytes]."""
        return np.dtype(np.uint8), (options.max_bytes,)

    def decode(self, source: bytes, options: TextOptions) -> Array:
        """Read the text without surrounding white space."""
        text = _read(source)
        row = np.zeros(options.max_bytes, np.uint8)
        data = _cut(text, options.max_bytes)
        row[: len(data)] = np.frombuffer(data, np.uint8)
        return row

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw the text if the item holds bytes, or bars if it holds features."""
        if item.dtype != np.uint8:
            return draw_bars(item, self.n_squares)
        from PIL import Image, ImageDraw  # noqa: PLC0415 - only the sheet needs it

        tile = Image.new("RGB", tile_size(self.n_squares), PAPER)
        text = item.tobytes().rstrip(b"\0").decode(errors="replace")
        draw, font = ImageDraw.Draw(tile), fonts.load(text, 9)
        lines = wrap(text, lambda line: draw.textlength(line, font=font) <= tile.width - 6)
        draw.multiline_text((3, 2), "\n".join(lines[:4]), fill=INK, font=font, spacing=2)
        return tile

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return the text."""
        if item.dtype != np.uint8:
            return super().show(item, options, fonts)
        return Shown(text=item.tobytes().rstrip(b"\0").decode(errors="replace"))


def _read(source: bytes) -> str:
    if len(source) > MAX_SOURCE_BYTES:
        raise DecodeError(f"the text has {len(source)} bytes; expected at most {MAX_SOURCE_BYTES}")
    try:
        text = source.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DecodeError(
            f"the text is not UTF-8: {error.reason} at byte {error.start}; convert it"
        ) from error
    if not text:
        raise DecodeError("the text is empty")
    if "\0" in text:
        raise DecodeError("the text holds the character U+0000, which marks its end here")
    return text


def _cut(text: str, max_bytes: int) -> bytes:
    """Encode as many whole characters as fit."""
    return text.encode()[:max_bytes].decode(errors="ignore").encode()


def wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Break a text into lines that fit, between words or inside a word that is too long."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in "".join(filter(str.isprintable, paragraph)).split():
            joined = f"{line} {word}" if line else word
            if fits(joined):
                line = joined
                continue
            if line:
                lines.append(line)
            line = ""
            for character in word:
                if line and not fits(line + character):
                    lines.append(line)
                    line = ""
                line += character
        lines.append(line)
    return lines
