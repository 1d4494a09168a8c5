"""The base of encoders that are read from a folder."""

import functools
import threading
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.model_folder import ModelFolder
from metafleet.encoders.weights import version_of
from metafleet.errors import ConfigError


class FolderEncoder(PretrainedEncoder):
    """An encoder with weights and preprocessing from a folder or from a model of the hub.

    The encoder's identity does not include the path, so a folder can be moved.

    Args:
        name: name of the encoder in configurations.
        place: the folder; see ``find_folder``.
        kind: the kind of data to encode.
        pooling: how outputs are pooled to one row; "" selects the encoder's default.
    """

    source: ClassVar[str]
    """The part of the encoder's name before the colon."""
    libraries: ClassVar[tuple[str, ...]]
    """Distributions whose versions may change the features."""

    def __init__(self, name: str, place: str, kind: str, pooling: str = "") -> None:
        self.name, self.kinds = name, frozenset((kind,))
        self._kind, self._pooling = kind, pooling
        self._folder = ModelFolder(name, place)
        self._lock = threading.Lock()

    def identity(self) -> Mapping[str, Any]:
        """Return the digests of all files that affect the features, the pooling, and versions."""
        return {
            "encoder": self.source,
            "kind": self._kind,
            "weights": self._folder.digests(),
            "pooling": self._pooling,
            "versions": {name: version_of(name) for name in self.libraries},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of one item. This loads the model."""
        self._require_shape(shape)
        return self._n_features(shape)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - encoders live as long as the process
    def _n_features(self, shape: tuple[int, ...]) -> int:
        blank = self._blank(shape)
        first, second = self._encoded(blank), self._encoded(blank)
        if not np.allclose(first, second, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise ConfigError(
                f"encoder {self.name!r} gives other features of the same item each time, as models "
                "do that hide random parts of it; choose another model"
            )
        return int(first.shape[1])

    def _blank(self, shape: tuple[int, ...]) -> Array:
        """Return an example item [1, *shape]."""
        return np.zeros((1, *shape), np.float32)

    @abstractmethod
    def _require_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ConfigError if the encoder does not take items of this shape."""
