"""What a pretrained encoder is: a frozen function from decoded items to rows of features."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class PretrainedEncoder(ABC):
    """A frozen network. Its weights are loaded when the first items are encoded.

    Safe to share between threads: ``encode`` may be called from several at once.

    Attributes:
        name: as configurations call it.
        kinds: kinds of data whose items it takes. One that takes pictures serves clips as well, see
            ``Frames``.
        batch_items: items that ``encode`` gets at a time, always as many: the last bits of features
            depend on it.
        can_cut: an item may be longer than the encoder takes; ``too_long`` counts such items.
    """

    name: str
    kinds: frozenset[str]
    batch_items: int = 16
    can_cut: bool = False

    @abstractmethod
    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the options of the decoder of ``kind`` that make items as the encoder takes them.

        Options that are not named stay as the user gave them.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return JSON values: digests of weights, preprocessing, pooling, versions of libraries.

        Encoders of the same identity give the same features, but for their last bits.

        Raises:
            DataMissingError: weights or libraries are not on this machine.
            DataCorruptError: weights are damaged.
        """

    @abstractmethod
    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of an item of this decoded shape.

        Raises:
            ConfigError: the encoder takes no items of this shape.
        """

    @abstractmethod
    def encode(self, items: Array) -> Array:
        """Return float32 [batch_items, features] of decoded items [batch_items, *shape].

        Raises:
            DataMissingError, DataCorruptError: as ``identity``.
        """

    def encode_part(self, items: Array) -> Array:
        """Encode 1 to ``batch_items`` items; the last one fills up the batch."""
        lacking = self.batch_items - len(items)
        full = items if lacking == 0 else np.concatenate([items, np.repeat(items[-1:], lacking, 0)])
        return self.encode(full)[: len(items)]

    def too_long(self, items: Array) -> int:
        """Return how many of these items were longer than the encoder takes, and were cut."""
        return 0

    @property
    def licence(self) -> str:
        """Return the licence of the weights; "" where it is not known."""
        return ""
