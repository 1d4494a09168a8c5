"""Options that choose the pretrained encoder of a modality."""

from dataclasses import asdict, dataclass
from typing import Literal

from metafleet.options import require

MOST_VIEWS = 100


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Options of a pretrained encoder. Every built-in kind of data has these options.

    Attributes:
        encoder: name of a pretrained encoder, such as "package:speech-embedding". With "", there is
            no encoder, and models get the items themselves. See docs/reference/encoders.md.
        pooling: how the encoder's outputs are pooled to one row; "" selects the encoder's default.
        storage: type of the stored features. "float16" takes half the space.
        views: number of views of each picture, clip or sound, 1 to 100. The features of every view
            are stored. View 0 is the item itself; all other views are augmented. In meta-training,
            an episode draws one view of each of its items.
        flip: whether half of the augmented views of pictures and clips are mirrored. This is wrong
            for letters, digits and other things that a mirror changes.
    """

    encoder: str = ""
    pooling: Literal["", "class_token", "mean", "max", "pooler", "flat"] = ""
    storage: Literal["float32", "float16"] = "float32"
    views: int = 1
    flip: bool = False

    @property
    def is_encoded(self) -> bool:
        """Whether items are converted to features."""
        return self.encoder not in ("", "bytes")

    def check_encoder(self) -> None:
        """Check that every option has an effect, and that the number of views is in range.

        Raises:
            ConfigError: an option has no effect without an encoder or with this number of views, or
                ``views`` is out of range.
        """
        expected = f"1 (only the item itself) to {MOST_VIEWS}"
        require(1 <= self.views <= MOST_VIEWS, "views", self.views, expected)
        require(self.views > 1 or not self.flip, "flip", self.flip, "views of 2 or more with it")
        for name in ("pooling", "storage", "views"):
            value = getattr(self, name)
            require(
                self.is_encoded or value == PLAIN[name], name, value, "an encoder to go with it"
            )


@dataclass(frozen=True, slots=True)
class EncoderName:
    """The values by which any process can find an encoder.

    Attributes:
        kind: the kind of data to encode.
        encoder, pooling: as in ``EncoderChoice``.
    """

    kind: str
    encoder: str
    pooling: str = ""


NO_ENCODER = EncoderChoice()
PLAIN = asdict(NO_ENCODER)
"""Default values. Recipes omit them, so recipes from before encoders existed stay the same."""
