"""Pretrained encoders by name."""

import functools
import os
import threading
from collections.abc import Callable, Collection, Mapping

from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.efficientnet_lite import EfficientNetLite0
from metafleet.encoders.fetching import path_of
from metafleet.encoders.hf_images import HfImages
from metafleet.encoders.hf_sounds import HfSounds
from metafleet.encoders.hf_texts import HfTexts
from metafleet.encoders.onnx_model import OnnxModel
from metafleet.encoders.open_clip_model import OpenClipImages, OpenClipTexts
from metafleet.encoders.own_encoder import OwnEncoder, is_own
from metafleet.encoders.sentence_folder import SentenceFolder, minilm
from metafleet.encoders.speech_embedding import SpeechEmbedding
from metafleet.encoders.timm_model import TimmImages
from metafleet.encoders.voice_embedding import VoiceEmbedding
from metafleet.encoders.wordllama import WordLlama
from metafleet.errors import ConfigError

Make = Callable[[str], PretrainedEncoder]
"""Makes an encoder that uses the given pooling."""

PACKAGED: Mapping[str, Make] = {
    "speech-embedding": SpeechEmbedding,
    "efficientnet-lite0": EfficientNetLite0,
    "wordllama": WordLlama,
    "minilm": minilm,
    "resemblyzer": VoiceEmbedding,
}
"""Encoders whose weights are in a third-party package."""

Load = Callable[[str, str, str, str], PretrainedEncoder]
"""Makes an encoder, given a name, a place, a kind of data and a pooling."""

LOADERS: Mapping[str, Mapping[str, Load]] = {
    "hf": {"image": HfImages, "text": HfTexts, "audio": HfSounds},
    "timm": {"image": TimmImages},
    "open_clip": {"image": OpenClipImages, "text": OpenClipTexts},
    "st": {"text": SentenceFolder},
    "onnx": {"image": OnnxModel, "audio": OnnxModel},
}
"""Part of an encoder's name before the colon -> kind of data -> function that makes the encoder."""
_SHORT = {"minilm": "package:minilm"}


_making = threading.RLock()
"""Held while an encoder is made, so that threads that ask for the same one share its weights."""


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
    with _making:
        return _made(name, kind, pooling)


@functools.lru_cache(maxsize=16)
def _made(name: str, kind: str, pooling: str) -> PretrainedEncoder:
    found = _make(_SHORT.get(name, name), kind, pooling)
    _require_kind(name, kind, found.kinds)
    return found


def _require_kind(name: str, kind: str, known: Collection[str]) -> None:
    if kind not in known:
        takes = " and ".join(sorted(known))
        raise ConfigError(f"encoder {name!r} takes {takes}; expected one that takes {kind}")


def _make(name: str, kind: str, pooling: str) -> PretrainedEncoder:
    source, _, rest = name.partition(":")
    if source == "package":
        if rest not in PACKAGED:
            known = ", ".join(f"'package:{each}'" for each in sorted(PACKAGED))
            raise ConfigError(f"there is no encoder {name!r}; expected one of {known}")
        return PACKAGED[rest](pooling)
    if source in LOADERS and rest:
        _require_kind(name, kind, LOADERS[source])
        return LOADERS[source][kind](name, rest, kind, pooling)
    if is_own(name):
        return OwnEncoder(name, pooling)
    known = ", ".join(f"{each}:..." for each in LOADERS)
    raise ConfigError(f"encoder={name!r}; expected a name such as 'package:minilm', or {known}")


def with_absolute_path(name: str) -> str:
    """Return an encoder's name with its path made absolute, if it has a relative path that exists.

    A path that starts with "~" is not changed, because its meaning does not depend on the working
    folder.
    """
    source, _, place = name.partition(":")
    if source not in LOADERS or place.startswith("~") or not path_of(name, place).exists():
        return name
    return f"{source}:{os.path.abspath(place)}"


def is_elsewhere(name: str) -> bool:
    """Return whether an encoder is read from a path that does not exist on this machine."""
    source, _, place = name.partition(":")
    return source in LOADERS and not path_of(name, place).exists()
