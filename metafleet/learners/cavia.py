"""CAVIA: only a few context parameters adapt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.models.base import ModelFactory
from metafleet.models.film import film, init_film
from metafleet.models.init import AFTER_MODEL
from metafleet.options import name_of, require
from metafleet.params import MetaState, Params
from metafleet.problem import Problem

_INPUT = "context"
_FILM = "film"


@dataclass(frozen=True, slots=True)
class CaviaOptions(MamlOptions):
    """Options of ``Cavia``.

    Attributes:
        n_context: number of context parameters phi, >= 1.
        conditioning: with "input", phi is appended to the inputs, as in the paper's regression
            experiments; with "film", phi scales and shifts the channels of every layer, as in the
            paper's image experiments.
        inner_lr: step size alpha of the adaptation, > 0.
    """

    n_context: int = 5
    conditioning: Literal["input", "film"] = "input"
    inner_lr: float = 1.0
    inner_steps: int = 1

    def __post_init__(self) -> None:
        MamlOptions.__post_init__(self)
        require(self.n_context >= 1, "n_context", self.n_context, "1 or more")


class Cavia(MamlSteps[CaviaOptions]):
    """Learn a network theta with context parameters phi; only phi adapts to an episode.

    Adaptation starts at phi_0 = 0. Each of k steps computes
    phi_{j+1} = phi_j - alpha * grad_phi L_S(phi_j, theta). The meta-gradient is
    d L_Q(phi_k, theta) / d theta.

    Source: Zintgraf et al. 2019, arXiv:1810.03642, eq. 5 and 6, algorithm 1; FiLM in section 3.2
    and Perez et al. 2018, arXiv:1709.07871.
    """

    name: ClassVar[str] = "cavia"
    Options: ClassVar[type] = CaviaOptions

    @classmethod
    def build(cls, options: CaviaOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Make a model that takes phi as an extra input, or one whose layers phi modulates."""
        n_outputs = problem.fixed_outputs(name_of(cls))
        extra = {_INPUT: (options.n_context,)} if options.conditioning == "input" else None
        return cls(options, model=make_model(n_outputs, extra_inputs=extra), problem=problem)

    def init_state(self, seed: int) -> MetaState:
        """Draw the network's parameters and, for "film", the map from phi to its layers."""
        state = super().init_state(seed)
        if self.options.conditioning == "input":
            return state
        n_context = self.options.n_context
        acts = init_film(seed, AFTER_MODEL, _FILM, n_inputs=n_context, layers=self.model.layers)
        return MetaState(state.params | acts, state.buffers)

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return phi_0 = 0."""
        self.require_some(params)
        like = next(iter(params.values()))
        return {_INPUT: like.new_zeros(self.options.n_context)}

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the network, conditioned on phi, to the inputs."""
        phi = fast[_INPUT]
        if self.options.conditioning == "film":
            own = {name: value for name, value in params.items() if not name.startswith(_FILM)}
            return self.model.forward(own, inputs, context.normalise, film(params, _FILM, phi))
        n = len(next(iter(inputs.values())))
        joined = dict(inputs) | {_INPUT: torch.broadcast_to(phi, (n, len(phi)))}
        return self.model.forward(params, joined, context.normalise)
