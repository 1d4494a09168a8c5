"""A model without parameters: the raw modalities."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.params import Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class RawFeaturesOptions:
    """Options of ``RawFeatures``: none."""


class RawFeatures:
    """Flattens the modalities and concatenates them in order of name. There is nothing to learn.

    This model is for learners that have their own networks and take raw inputs. If the inputs lack
    a modality, as in a mixture of data sets, the model puts zeros in its place.

    Args:
        modalities: modality -> shape of one example.
    """

    name: ClassVar[str] = "raw"
    Options: ClassVar[type] = RawFeaturesOptions

    def __init__(self, modalities: Mapping[str, tuple[int, ...]]) -> None:
        self._sizes = {name: math.prod(modalities[name]) for name in sorted(modalities)}

    @classmethod
    def build(cls, options: RawFeaturesOptions, problem: Problem, n_outputs: int | None) -> Self:
        """Make a model that reads all modalities.

        Raises:
            ConfigError: ``n_outputs`` is given, but this model has no head.
        """
        if n_outputs is not None:
            raise ConfigError(
                "model 'raw' has nothing to learn and no outputs; choose another model, such as "
                "'mlp', or a learner that brings networks of its own, such as 'cnp'"
            )
        return cls(problem.modalities)

    @property
    def batch_norm(self) -> str:
        """Always "none"."""
        return "none"

    @property
    def head(self) -> frozenset[str]:
        """Always empty: there is no head."""
        return frozenset()

    @property
    def layers(self) -> Mapping[str, int]:
        """Always empty: there are no hidden layers."""
        return {}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The count of numbers in one example."""
        return (sum(self._sizes.values()),)

    def init_params(self, seed: int) -> Params:
        """Return no parameters."""
        return {}

    def init_buffers(self) -> Params:
        """Return no buffers."""
        return {}

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to features [n, d]."""
        n = next(iter(inputs.values())).shape[0]
        zeros = next(iter(inputs.values())).new_zeros
        return torch.cat(
            [
                inputs[name].flatten(1) if name in inputs else zeros(n, size)
                for name, size in self._sizes.items()
            ],
            dim=1,
        )

    features = forward

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the features, because there is no head."""
        return features
