"""A learner, what it learns, and what steps that."""

from dataclasses import dataclass
from typing import Any

import torch

from metafleet.errors import ConfigError
from metafleet.learners.episodic import EpisodicLearner
from metafleet.script.binding import Binding
from metafleet.script.learned_state import LearnedState


@dataclass(frozen=True, slots=True)
class Bound:
    """All of a ``MetaLearner`` that depends on the shapes of data.

    Attributes:
        binding: algorithm and module, made into a learner.
        state: what is learned.
        optimiser: of ``state.params``; None where there are none.
    """

    binding: Binding
    state: LearnedState
    optimiser: torch.optim.Optimizer | None

    @property
    def learner(self) -> EpisodicLearner[Any]:
        """The learner."""
        return self.binding.learner

    def require_optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser.

        Raises:
            ConfigError: nothing is learned.
        """
        if self.optimiser is None:
            raise ConfigError(
                f"learner {self.binding.algorithm.name!r} has nothing to learn of this module; "
                "expected parameters with requires_grad, outside the head if the learner embeds"
            )
        return self.optimiser
