"""Pretrained encoders by name."""

import functools
from collections.abc import Callable, Mapping

from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.efficientnet_lite import EfficientNetLite0
from metafleet.encoders.sentence_folder import minilm
from metafleet.encoders.speech_embedding import SpeechEmbedding
from metafleet.encoders.wordllama import WordLlama
from metafleet.errors import ConfigError

Make = Callable[[str], PretrainedEncoder]
"""Makes an encoder that uses the given pooling."""

PACKAGED: Mapping[str, Make] = {
    "speech-embedding": SpeechEmbedding,
    "efficientnet-lite0": EfficientNetLite0,
    "wordllama": WordLlama,
    "minilm": minilm,
}
"""Encoders whose weights are in a third-party package."""
_SHORT = {"minilm": "package:minilm"}


@functools.lru_cache(maxsize=16)
def get_encoder(name: str, *, kind: str, pooling: str = "") -> PretrainedEncoder:
    """Return the encoder called ``name``. Its weights are loaded when it first encodes.

    Args:
        name: "package:NAME", or another form that docs/reference/encoders.md lists.
        kind: the kind of data to encode.
        pooling: how outputs are pooled to one row; "" selects the encoder's default.

    Raises:
        ConfigError: there is no such encoder, or it does not support this pooling or this kind of
            data.
    """
    found = _make(_SHORT.get(name, name), pooling)
    if kind not in found.kinds:
        takes = " and ".join(sorted(found.kinds))
        raise ConfigError(f"encoder {name!r} takes {takes}; expected one that takes {kind}")
    return found


def _make(name: str, pooling: str) -> PretrainedEncoder:
    source, _, rest = name.partition(":")
    if source == "package":
        if rest not in PACKAGED:
            known = ", ".join(f"'package:{each}'" for each in sorted(PACKAGED))
            raise ConfigError(f"there is no encoder {name!r}; expected one of {known}")
        return PACKAGED[rest](pooling)
    raise ConfigError(f"encoder={name!r}; expected a name such as 'package:minilm'")
