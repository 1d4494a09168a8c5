"""Multimodal MAML: an embedding of the task modulates the network."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.learners.prototypes import one_hot
from metafleet.models.film import film, init_film
from metafleet.models.init import AFTER_MODEL
from metafleet.models.recurrent import init_lstm, unroll_lstm
from metafleet.options import name_of, require, require_layers
from metafleet.params import MetaState, Params

_ENCODER = "task.lstm"
_FILM = "task.film"
_TASK = "task.embedding"
_TENSORS_OF_LSTM = 3


@dataclass(frozen=True, slots=True)
class MmamlOptions(MamlOptions):
    """Options of ``Mmaml``.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
        units: hidden units of the task encoder in each of its two directions, >= 1.
        layers: layers of the task encoder, >= 1.
    """

    inner_steps: int = 5
    inner_lr: float = 0.001
    units: int = 40
    layers: int = 2

    def __post_init__(self) -> None:
        MamlOptions.__post_init__(self)
        require(self.units >= 1, "units", self.units, "1 or more")
        require_layers("layers", self.layers)


class Mmaml(MamlSteps[MmamlOptions]):
    """MAML for tasks of several kinds: a task encoder modulates the network before it adapts.

    A bidirectional LSTM, the task encoder, reads the support pairs (x, y). The last states of the
    LSTM form a vector v, which scales and shifts every hidden layer of the network (FiLM). Inner
    steps keep v constant: theta_{j+1} = theta_j - alpha * grad L_S(theta_j; v), from theta_0 =
    theta. The outer loop differentiates L_Q(theta_k; v) after k inner steps with respect to three
    sets of parameters: theta, those of the task encoder, and those of the modulation.

    Source: Vuorio et al. 2019, arXiv:1910.13616, algorithm 1, eq. 1 and 2. The default sizes are
    those of its regression experiments.
    """

    name: ClassVar[str] = "mmaml"
    Options: ClassVar[type] = MmamlOptions
    reads_targets: ClassVar[bool] = True
    still: ClassVar[frozenset[str]] = frozenset({_TASK})

    def init_state(self, seed: int) -> MetaState:
        """Draw the parameters of network, task encoder and modulation."""
        state, own = super().init_state(seed), self.options
        params, index = dict(state.params), AFTER_MODEL
        n_inputs = sum(math.prod(s) for s in self.problem.modalities.values()) + self._n_targets
        for layer in range(own.layers):
            for way in ("forward", "backward"):
                name = f"{_ENCODER}.{way}{layer}"
                params |= init_lstm(seed, index, name, n_inputs=n_inputs, n_units=own.units)
                index += _TENSORS_OF_LSTM
            n_inputs = 2 * own.units
        params |= init_film(seed, index, _FILM, n_inputs=n_inputs, layers=self.model.layers)
        return MetaState(params, state.buffers)

    @property
    def _n_targets(self) -> int:
        return self.problem.fixed_outputs(name_of(type(self)))

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return theta and v; inner steps do not move v."""
        theta = {name: value for name, value in params.items() if not name.startswith("task.")}
        return theta | {_TASK: self._read(params, support)}

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the modulated network to the inputs."""
        modulate = film(params, _FILM, fast[_TASK])
        return self.model.forward(fast, inputs, context.normalise, modulate)

    def _read(self, params: Params, support: ExampleSet) -> Tensor:
        """Return the task embedding v, [2 units]."""
        parts = [support.inputs[name].flatten(1) for name in sorted(self.problem.modalities)]
        targets = support.targets
        if not self.is_regression:
            targets = one_hot(targets, self._n_targets, parts[0])
        xs = torch.cat([*parts, targets], dim=1)[:, None]
        there = back = xs
        for layer in range(self.options.layers):
            there = unroll_lstm(params, f"{_ENCODER}.forward{layer}", xs)
            back = unroll_lstm(params, f"{_ENCODER}.backward{layer}", xs, is_reversed=True)
            xs = torch.cat([there, back], dim=2)
        return torch.cat([there[-1, 0], back[0, 0]])
