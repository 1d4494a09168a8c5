"""The base of pretrained encoders: frozen functions from decoded items to rows of features."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from metafleet.encoders.runtime import one_thread_a_call
from metafleet.encoders.weights import PackagedFile
from metafleet.errors import ConfigError, DataError, MetafleetError

if TYPE_CHECKING:
    from metafleet.encoders.graph_part import GraphPart

Array = npt.NDArray[Any]


class PretrainedEncoder(ABC):
    """A frozen network that encodes items. Its weights are loaded when it first encodes items.

    Threads may share an encoder and call ``encode`` at the same time.

    Attributes:
        name: name of the encoder in configurations.
        kinds: the kinds of data that the encoder takes. An encoder of pictures also serves clips
            through ``Frames``.
        packaged: the files of weights that are in a third-party package and can be copied into the
            folder of a model; empty if there are none.
        batch_items: number of items in a batch. Every call of ``encode`` gets this number of items,
            because the last bits of the features depend on the number. With some encoders, the last
            bits also depend on the other items of the batch, for example if texts are padded to the
            length of the longest text. ``encode_rows`` always composes the same batches, so the
            features stay bit-identical.
        can_cut: whether the encoder truncates long items; ``too_long`` counts such items.
    """

    name: str
    kinds: frozenset[str]
    packaged: tuple[PackagedFile, ...] = ()
    batch_items: int = 16
    can_cut: bool = False

    @abstractmethod
    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return options with which the decoder of ``kind`` produces items that this encoder takes.

        Options of the decoder that this function does not return keep the user's values.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return everything that determines the features, as JSON values.

        The identity consists of the preprocessing, the pooling, the versions of libraries, and
        digests of the weights. Encoders with the same identity give the same features, except for
        the last bits. The last bits depend on the machine and on the batch.

        Raises:
            DataMissingError: the weights are not on this machine, or a library is not installed.
            DataCorruptError: the weights are damaged.
        """

    @abstractmethod
    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of an item that has this shape when decoded.

        Raises:
            ConfigError: the encoder does not take items of this shape.
        """

    @abstractmethod
    def encode(self, items: Array) -> Array:
        """Return features, float32 [batch_items, n], of decoded items [batch_items, *shape].

        Raises:
            DataMissingError, DataCorruptError: for the same reasons as ``identity``.
        """

    def encode_part(self, items: Array) -> Array:
        """Encode 1 to ``batch_items`` items. The last item is repeated to fill the batch.

        Raises:
            DataMissingError, DataCorruptError: for the same reasons as ``identity``.
            DataError: a library cannot encode these items.
        """
        lacking = self.batch_items - len(items)
        full = items if lacking == 0 else np.concatenate([items, np.repeat(items[-1:], lacking, 0)])
        return self._encoded(full)[: len(items)]

    def encode_all(self, items: Array) -> Array:
        """Encode at least 1 item, in batches and with one thread per call.

        Raises:
            DataError: for the same reasons as ``encode_part``.
        """
        size = self.batch_items
        with one_thread_a_call():
            parts = [self.encode_part(items[i : i + size]) for i in range(0, len(items), size)]
        return np.concatenate(parts)

    def _encoded(self, items: Array) -> Array:
        """Return ``encode(items)``; convert errors of libraries to one-line errors."""
        try:
            return self.encode(items)
        except (MetafleetError, MemoryError):
            raise
        except Exception as error:  # a library may raise anything
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"encoder {self.name!r} cannot encode items of shape {list(items.shape[1:])} "
                f"({type(error).__name__}: {reason}); check the options of the items, and that the "
                "encoder's files belong together"
            ) from error

    def graph_part(self, shape: tuple[int, ...]) -> "GraphPart":
        """Return the encoder as a part of a graph in ONNX.

        Args:
            shape: shape of an item when decoded.

        Raises:
            ConfigError: the encoder cannot be a part of a graph.
        """
        raise ConfigError(
            f"encoder {self.name!r} cannot be a part of a graph, because it does not compute the "
            "features by torch or ONNX alone"
        )

    def too_long(self, items: Array) -> int:
        """Return how many of these items are too long for the encoder and are truncated."""
        return 0

    @property
    def licence(self) -> str:
        """The licence of the weights; "" if unknown."""
        return ""

    @property
    def logit_scale(self) -> float | None:
        """The factor that turns cosines into logits; None without a text tower.

        The cosines are between the features of items and the features of texts.

        A text tower encodes texts as vectors in the space of the encoder's items. An encoder that
        has a text tower can be opened under the same name for the kind "text". CLIP's factor is
        100.
        """
        return None
