"""A learner bound to data, with its learned state and its optimiser."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from metafleet.episode import Episode
from metafleet.errors import ConfigError
from metafleet.execution import Execution, check_mapped
from metafleet.learners.episodic import EpisodicLearner
from metafleet.script.binding import Binding
from metafleet.script.learned_state import LearnedState


@dataclass(frozen=True, slots=True)
class Bound:
    """The parts of a ``MetaLearner`` that depend on the shapes of the data.

    Attributes:
        binding: the learner that was built from algorithm and module.
        state: the learned state.
        optimiser: optimiser of ``state.params``. None if there are no parameters.
        execution: the object that computes the meta-gradients.
    """

    binding: Binding
    state: LearnedState
    optimiser: torch.optim.Optimizer | None
    execution: Execution

    @property
    def learner(self) -> EpisodicLearner[Any]:
        """The learner."""
        return self.binding.learner

    def check_execution(self) -> None:
        """Reject active dropout under vmap, which would draw other masks than autograd does.

        Raises:
            ConfigError: the module has active dropout; the message names the layer.
        """
        name = self.execution.strategy.name
        module = self.binding.factory.function.module
        drawing = next((n for n, layer in module.named_modules() if _draws(layer)), None)
        if name == "vmap" and drawing is not None:
            raise ConfigError(
                f"execution={name!r} but layer {drawing!r} drops out at random; switch it to "
                "evaluation mode, or choose 'autograd'"
            )

    def check_mapped(self, episode: Episode) -> None:
        """After a computation has failed, check that the module can be mapped over episodes.

        Raises:
            ConfigError: the module cannot be mapped.
        """
        if self.execution.strategy.name == "vmap":
            check_mapped(self.learner, self.state.view(), [episode])

    def require_optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser.

        Raises:
            ConfigError: there are no parameters to learn.
        """
        if self.optimiser is None:
            raise ConfigError(
                f"learner {self.binding.algorithm.name!r} has nothing to learn of this module; "
                "expected parameters with requires_grad, outside the head if the learner embeds"
            )
        return self.optimiser


def _draws(layer: nn.Module) -> bool:
    """Return whether a layer applies dropout: a dropout layer, or one with a ``dropout`` rate."""
    rate = layer.p if isinstance(layer, _DropoutNd) else getattr(layer, "dropout", 0.0)
    return layer.training and isinstance(rate, float) and rate > 0.0
