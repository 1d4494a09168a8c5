"""No network at all: the modalities as they come."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.ngram_bag import NgramBagOptions, count_ngrams
from metafleet.params import Params
from metafleet.problem import Problem

_NGRAMS = NgramBagOptions()


@dataclass(frozen=True, slots=True)
class RawFeaturesOptions:
    """Options of ``RawFeatures``: none."""


class RawFeatures:
    """Flattens the modalities and joins them in order of name. There is nothing to learn.

    For learners with networks of their own, which take the inputs as they come, and for baselines.
    A modality that inputs do not hold, as in a mixture of data sets, is zeros.

    Args:
        modalities: modality -> shape of one example.
        counted: those of them, bytes of a text, of which counts of n-grams are taken instead.
    """

    name: ClassVar[str] = "raw"
    Options: ClassVar[type] = RawFeaturesOptions

    def __init__(
        self, modalities: Mapping[str, tuple[int, ...]], *, counted: frozenset[str] = frozenset()
    ) -> None:
        self.sizes = {
            name: _NGRAMS.buckets if name in counted else math.prod(modalities[name])
            for name in sorted(modalities)
        }
        """Modality -> how many of the features are its own, in their order."""
        self._counted = counted

    @classmethod
    def build(cls, options: RawFeaturesOptions, problem: Problem, n_outputs: int | None) -> Self:
        """Look at all modalities.

        Raises:
            ConfigError: outputs are asked for; there is no head.
        """
        if n_outputs is not None:
            raise ConfigError(
                "model 'raw' has nothing to learn and no outputs; choose another model, such as "
                "'mlp', or a learner that brings networks of its own, such as 'cnp'"
            )
        return cls(problem.modalities)

    @property
    def batch_norm(self) -> str:
        """There is none."""
        return "none"

    @property
    def head(self) -> frozenset[str]:
        """There is none."""
        return frozenset()

    @property
    def layers(self) -> Mapping[str, int]:
        """There are none."""
        return {}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Numbers in one example."""
        return (sum(self.sizes.values()),)

    def init_params(self, seed: int) -> Params:
        """Return nothing."""
        return {}

    def init_buffers(self) -> Params:
        """Return nothing."""
        return {}

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to features [n, d]."""
        return torch.cat([self._of(name, size, inputs) for name, size in self.sizes.items()], dim=1)

    features = forward

    def _of(self, name: str, size: int, inputs: Mapping[str, Tensor]) -> Tensor:
        if name not in inputs:
            other = next(iter(inputs.values()))
            return other.new_zeros(other.shape[0], size)
        if name in self._counted:
            return count_ngrams(inputs[name], buckets=_NGRAMS.buckets, max_n=_NGRAMS.max_n)
        return inputs[name].flatten(1)

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the features: there is no head."""
        return features
