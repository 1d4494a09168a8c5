"""WordLlama: 256 features of a text, computed in about 20 microseconds.

The features are the mean of the vectors of the text's tokens. These vectors are token embeddings of
large language models, reduced to 256 dimensions (Miller 2024, github.com/dleemiller/WordLlama).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import encoder_library
from metafleet.encoders.text_bytes import TEXT_BYTES, read_texts, require_text
from metafleet.encoders.weights import PackagedFile, version_of

_INSTALL = "pip install 'metafleet[wordllama]'"
_TABLE = PackagedFile(
    module="wordllama",
    path="weights/l2_supercat_256.safetensors",
    sha256="64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    install=_INSTALL,
)
_TOKENIZER = PackagedFile(
    module="wordllama",
    path="tokenizers/l2_supercat_tokenizer_config.json",
    sha256="93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
    install=_INSTALL,
)


class WordLlama(PretrainedEncoder):
    """Encodes texts of up to ``TEXT_BYTES`` bytes."""

    name = "package:wordllama"
    kinds = frozenset(("text",))
    batch_items = 256
    licence = "MIT"
    packaged = (_TABLE, _TOKENIZER)

    def __init__(self, pooling: str = "") -> None:
        choose_pooling(self.name, pooling, ("mean",))

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder option for bytes."""
        return {"max_bytes": TEXT_BYTES}

    def identity(self) -> Mapping[str, Any]:
        """Return digests and versions."""
        files = (_TABLE, _TOKENIZER)
        for file in files:
            file.find(self.name)
        return {
            "encoder": self.name,
            "weights": {file.path: file.sha256 for file in files},
            "pooling": "mean",
            "versions": {"tokenizers": version_of("tokenizers")},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return 256."""
        require_text(self.name, shape)
        return 256

    def encode(self, items: Array) -> Array:
        """Encode texts uint8 [n, bytes]. A text without tokens gives zeros."""
        found = self._tokenizer.encode_batch(read_texts(items), add_special_tokens=False)
        rows = [self._table[each.ids].mean(axis=0) if each.ids else 0.0 for each in found]
        features = np.zeros((len(items), self._table.shape[1]), np.float32)
        for number, row in enumerate(rows):
            features[number] = row
        return features

    @loaded_once
    def _table(self) -> Array:
        from safetensors.numpy import load_file  # noqa: PLC0415 - only here

        tensors = load_file(_TABLE.find(self.name))
        return np.asarray(next(iter(tensors.values())), np.float32)

    @loaded_once
    def _tokenizer(self) -> Any:
        library = encoder_library("tokenizers", encoder=self.name, install=_INSTALL)
        tokenizer = library.Tokenizer.from_file(str(_TOKENIZER.find(self.name)))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
