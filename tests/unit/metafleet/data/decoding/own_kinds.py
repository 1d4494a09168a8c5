"""Kinds of a user's own, right and wrong. A test writes this file into a package of its own."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.image import ImageDecoder
from metafleet.data.decoding.table import TableDecoder
from metafleet.data.decoding.text import TextDecoder


@dataclass(frozen=True)
class Options:
    width: int = 3
    scale: float = 1.0

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width={self.width}")


class Numbers(Decoder):
    kind = "numbers"
    version = 1
    suffixes = frozenset((".num", ".csv"))
    Options = Options
    default_encoder = "mlp"
    problem = "no numbers"

    def example(self, options):
        return np.dtype(np.float32), (options.width,)

    def decode(self, source, options):
        values = np.array(source.split(), np.float32) * np.float32(options.scale)
        return values[: options.width]

    def draw(self, item, fonts):
        return Image.new("L", (56, 56), int(item[0]) % 256)


class Others(Numbers):
    suffixes = frozenset((".oth",))


class Pictures(Numbers):
    kind = "image"


class Shouting(Numbers):
    kind = "NUMBERS"


class Unversioned(Numbers):
    version = "1"


class Bare(Numbers):
    suffixes = frozenset(("num",))


class Thawed(Numbers):
    @dataclass
    class Options:
        width: int = 3


class Demanding(Numbers):
    @dataclass(frozen=True)
    class Options:
        width: int


class Unfinished(Decoder):
    kind = "unfinished"


class Commented(Numbers):
    kind = "commented"

    def claims(self, part):
        return part.read().startswith(b"#")


class Doubtful(Commented):
    def claims(self, part):
        return 1 // 0


class Raising(Numbers):
    def decode(self, source, options):
        return 1 // 0


class Textual(Numbers):
    def decode(self, source, options):
        return source


class Endless(Numbers):
    def decode(self, source, options):
        return np.full(3, np.inf, np.float32)


class Shapeless(Numbers):
    def example(self, options):
        return np.dtype(object), (0,)


class Careless(Numbers):
    def measured(self, options, given, parts):
        return None


class Blind(Numbers):
    def draw(self, item, fonts):
        return "a tile"


class Scans(ImageDecoder):
    kind = "scan"


class Notes(TextDecoder):
    kind = "note"


class Rows(TableDecoder):
    kind = "row"


class Uncertain(Numbers):
    is_text = "perhaps"


class Unbounded(Scans):
    is_pixels = False


class Ranging(Scans):
    @dataclass(frozen=True)
    class Options:
        range: int = 3


class Flat(Scans):
    def example(self, options):
        return np.dtype(np.uint8), (options.side, options.side)


class Unread(Rows):
    suffixes = frozenset((".row",))
