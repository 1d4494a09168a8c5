"""A multilayer perceptron over one or several modalities."""

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
from metafleet.models.headed import HeadedModel
from metafleet.models.init import fan_in_uniform
from metafleet.options import require, require_layers
from metafleet.params import Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class MlpOptions:
    """Options of ``Mlp``.

    Attributes:
        hidden: number of units of each hidden layer. There must be at least one hidden layer.
        modalities: modalities to read. They are flattened and concatenated in this order. If
            ``modalities`` is empty, all modalities are read, in the order of their names.
    """

    hidden: tuple[int, ...] = (40, 40)
    modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_usable = len(self.hidden) > 0 and min(self.hidden) >= 1
        require(is_usable, "hidden", list(self.hidden), "one or more layers of 1 or more units")
        require_layers("hidden layers", len(self.hidden))
        is_unique = len(set(self.modalities)) == len(self.modalities)
        require(is_unique, "modalities", list(self.modalities), "each modality once")


class Mlp(HeadedModel):
    """Linear layers with ReLU between them.

    With a head, the outputs are [n, n_outputs]. Without a head, the outputs are the values of the
    last hidden layer before its ReLU, [n, hidden[-1]].

    Source: the defaults are the network of Finn et al. 2017, arXiv:1703.03400, section 5.1.
    """

    name: ClassVar[str] = "mlp"
    Options: ClassVar[type] = MlpOptions

    def __init__(
        self, options: MlpOptions, *, modalities: tuple[str, ...], n_in: int, n_outputs: int | None
    ) -> None:
        super().__init__(n_outputs, head_layer=f"layer{len(options.hidden)}")
        self._modalities = modalities
        self._hidden = options.hidden
        self._n_in = n_in

    @classmethod
    def build(cls, options: MlpOptions, problem: Problem, n_outputs: int | None) -> Self:
        """Make a network that fits the modalities of ``problem``."""
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
        """Always "none"."""
        return "none"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Units of the last hidden layer."""
        return (self._hidden[-1],)

    def init_params(self, seed: int) -> Params:
        """Draw weights and biases from U(-b, b), b = 1 / sqrt(fan_in)."""
        params: Params = {}
        n_in = self._n_in
        for i, (layer, n_out) in enumerate(self.layers.items()):
            params[f"{layer}.weight"] = fan_in_uniform(seed, 2 * i, (n_out, n_in), fan_in=n_in)
            params[f"{layer}.bias"] = fan_in_uniform(seed, 2 * i + 1, (n_out,), fan_in=n_in)
            n_in = n_out
        return params | self.init_head(seed, 2 * len(self._hidden))

    def init_buffers(self) -> Params:
        """Return no buffers, because there is no batch norm."""
        return {}

    @property
    def layers(self) -> Mapping[str, int]:
        """The hidden layers, with their numbers of units."""
        return {f"layer{i}": units for i, units in enumerate(self._hidden)}

    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs to the last hidden layer, [n, d]; after its ReLU if there is a head."""
        x = torch.cat([inputs[modality].flatten(1) for modality in self._modalities], dim=1)
        for i, layer in enumerate(self.layers):
            x = F.relu(x) if i > 0 else x
            x = F.linear(x, params[f"{layer}.weight"], params[f"{layer}.bias"])
            x = x if modulate is None else modulate(layer, x)
        return F.relu(x) if self.head else x
