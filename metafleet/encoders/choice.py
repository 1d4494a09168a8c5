"""Options that choose the pretrained encoder of a modality."""

from dataclasses import asdict, dataclass
from typing import Literal

from metafleet.options import require


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Encoder options, which every built-in kind of data has.

    Attributes:
        encoder: name of a pretrained encoder, such as "package:speech-embedding"; "" for none, in
            which case models get the items themselves. See docs/reference/encoders.md.
        pooling: how the encoder's outputs are pooled to one row; "" selects the encoder's default.
        storage: type of the stored features. "float16" takes half the space.
    """

    encoder: str = ""
    pooling: Literal["", "class_token", "mean", "max", "pooler", "flat"] = ""
    storage: Literal["float32", "float16"] = "float32"

    @property
    def is_encoded(self) -> bool:
        """Whether items are converted to features."""
        return self.encoder not in ("", "bytes")

    def check_encoder(self) -> None:
        """Reject ``pooling`` and ``storage`` if there is no encoder.

        Raises:
            ConfigError: one of the two is set without an encoder; the message names it.
        """
        for name in ("pooling", "storage"):
            value = getattr(self, name)
            require(
                self.is_encoded or value == PLAIN[name], name, value, "an encoder to go with it"
            )


@dataclass(frozen=True, slots=True)
class EncoderName:
    """How any process finds an encoder.

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
