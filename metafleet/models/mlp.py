"""A multilayer perceptron over any modality, or several side by side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.init import fan_in_uniform
from metafleet.options import require
from metafleet.params import Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class MlpOptions:
    """Options of ``Mlp``.

    Attributes:
        hidden: units of each hidden layer, at least one layer.
        modalities: which modalities to look at, flattened and joined in this order; empty for
            all, in order of name.
    """

    hidden: tuple[int, ...] = (40, 40)
    modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_usable = len(self.hidden) > 0 and min(self.hidden) >= 1
        require(is_usable, "hidden", list(self.hidden), "one or more layers of 1 or more units")
        is_unique = len(set(self.modalities)) == len(self.modalities)
        require(is_unique, "modalities", list(self.modalities), "each modality once")


class Mlp:
    """Linear layers with ReLU between them.

    With a head the outputs are [n, n_outputs]; without, the last hidden layer before its ReLU is
    the embedding [n, hidden[-1]].

    Source: the defaults are the network of Finn et al. 2017, arXiv:1703.03400, section 5.1.
    """

    Options: ClassVar[type] = MlpOptions

    def __init__(
        self, options: MlpOptions, *, modalities: tuple[str, ...], n_in: int, n_outputs: int | None
    ) -> None:
        self._modalities = modalities
        self._has_head = n_outputs is not None
        self._n_features = options.hidden[-1]
        self._sizes = (n_in, *options.hidden, *(() if n_outputs is None else (n_outputs,)))

    @classmethod
    def build(cls, options: MlpOptions, problem: Problem, n_outputs: int | None) -> Self:
        """Fit the network to the modalities of ``problem``."""
        known = problem.modalities
        for modality in options.modalities:
            if modality not in known:
                names = ", ".join(map(repr, sorted(known)))
                raise ConfigError(f"modalities holds {modality!r}; the data have {names}")
        chosen = options.modalities or tuple(sorted(known))
        n_in = sum(math.prod(known[modality]) for modality in chosen)
        return cls(options, modalities=chosen, n_in=n_in, n_outputs=n_outputs)

    @property
    def batch_norm(self) -> str:
        """There is none."""
        return "none"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Units of the last hidden layer."""
        return (self._n_features,)

    def init_params(self, seed: int) -> Params:
        """Draw weights and biases from U(-b, b), b = 1 / sqrt(fan_in)."""
        params: Params = {}
        for i, (n_in, n_out) in enumerate(zip(self._sizes, self._sizes[1:], strict=False)):
            params[f"layer{i}.weight"] = fan_in_uniform(seed, 2 * i, (n_out, n_in), fan_in=n_in)
            params[f"layer{i}.bias"] = fan_in_uniform(seed, 2 * i + 1, (n_out,), fan_in=n_in)
        return params

    def init_buffers(self) -> Params:
        """Return nothing: there is no batch norm."""
        return {}

    @property
    def head(self) -> frozenset[str]:
        """The last layer's names where it is an output layer."""
        last = f"layer{len(self._sizes) - 2}"
        return frozenset({f"{last}.weight", f"{last}.bias"}) if self._has_head else frozenset()

    @property
    def layers(self) -> Mapping[str, int]:
        """The hidden layers, with their units."""
        hidden = self._sizes[1:-1] if self._has_head else self._sizes[1:]
        return {f"layer{i}": units for i, units in enumerate(hidden)}

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to outputs [n, n_outputs] or embeddings [n, d]."""
        return self.apply_head(params, self.features(params, inputs, norm, modulate))

    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs to the last hidden layer, [n, d]: after its ReLU where a head follows."""
        x = torch.cat([inputs[modality].flatten(1) for modality in self._modalities], dim=1)
        for i, layer in enumerate(self.layers):
            x = F.relu(x) if i > 0 else x
            x = F.linear(x, params[f"{layer}.weight"], params[f"{layer}.bias"])
            x = x if modulate is None else modulate(layer, x)
        return F.relu(x) if self._has_head else x

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the logits or values of features [n, d]; the features without a head."""
        if not self._has_head:
            return features
        last = f"layer{len(self._sizes) - 2}"
        return F.linear(features, params[f"{last}.weight"], params[f"{last}.bias"])
