"""Which pretrained encoder a modality gets, as the options of its kind of data say."""

from dataclasses import asdict, dataclass
from typing import Literal

from metafleet.options import require


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Options that every built-in kind of data has.

    Attributes:
        encoder: the name of a pretrained encoder, such as "package:speech-embedding"; "": none, and
            models get the items themselves. See docs/reference/encoders.md.
        pooling: how the encoder's outputs become one row; "": the encoder's own way.
        storage: type of the stored features. "float16" takes half the room.
    """

    encoder: str = ""
    pooling: Literal["", "class_token", "mean", "max", "flat"] = ""
    storage: Literal["float32", "float16"] = "float32"

    @property
    def is_encoded(self) -> bool:
        """Return whether items become features."""
        return self.encoder not in ("", "bytes")

    def check_encoder(self) -> None:
        """Refuse options of an encoder where there is none.

        Raises:
            ConfigError: names the option.
        """
        for name in ("pooling", "storage"):
            value = getattr(self, name)
            require(
                self.is_encoded or value == PLAIN[name], name, value, "an encoder to go with it"
            )


NO_ENCODER = EncoderChoice()
PLAIN = asdict(NO_ENCODER)
"""Values that change nothing: recipes leave them out, and stay as they were before encoders."""
