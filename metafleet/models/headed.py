"""The base of networks that consist of a body and an optional linear head on its features."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.init import fan_in_uniform
from metafleet.params import Params


class HeadedModel(ABC):
    """A body with an optional linear head on its features.

    With a head, the outputs are [n, n_outputs]. Without a head, the outputs are the features [n,
    d]. A subclass implements the rest of ``Model``, and draws the head by ``init_head``.

    Args:
        n_outputs: outputs of the head; None for no head.
        head_layer: name of the head. Its tensors are "<head_layer>.weight" and "<head_layer>.bias".
    """

    def __init__(self, n_outputs: int | None, *, head_layer: str = "head") -> None:
        self._n_outputs = n_outputs
        self._weight, self._bias = f"{head_layer}.weight", f"{head_layer}.bias"

    @property
    @abstractmethod
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one example's features before flattening."""

    @abstractmethod
    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to features [n, d]."""

    @property
    def head(self) -> frozenset[str]:
        """Names of the head's parameters; empty without a head."""
        return frozenset() if self._n_outputs is None else frozenset({self._weight, self._bias})

    def init_head(self, seed: int, index: int) -> Params:
        """Draw the head from U(-b, b), b = 1 / sqrt(fan_in). Return nothing if there is no head.

        Args:
            seed: the run's seed.
            index: index of the weight in the model. The bias has the next index.
        """
        if self._n_outputs is None:
            return {}
        n_in, n_out = math.prod(self.feature_shape), self._n_outputs
        return {
            self._weight: fan_in_uniform(seed, index, (n_out, n_in), fan_in=n_in),
            self._bias: fan_in_uniform(seed, index + 1, (n_out,), fan_in=n_in),
        }

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to outputs [n, n_outputs] or embeddings [n, d]."""
        return self.apply_head(params, self.features(params, inputs, norm, modulate))

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the logits or values of features [n, d]; the features without a head."""
        if self._n_outputs is None:
            return features
        return F.linear(features, params[self._weight], params[self._bias])
