"""The base of learners whose inner steps follow gradients, by an optimiser that is an option."""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.inner_optimiser import (
    InnerOptimiser,
    InnerOptimiserOptions,
    without_moments,
)
from metafleet.models.base import Model
from metafleet.params import Params, dot
from metafleet.problem import Problem
from metafleet.registry import name_of

OptionsT = TypeVar("OptionsT", bound=InnerOptimiserOptions)


class GradientSteps(InnerLoopLearner[OptionsT], Generic[OptionsT]):
    """Follows gradients; what an optimiser remembers from step to step goes with fast parameters.

    Attributes:
        takes_losses: True for a learner that is nothing but steps along the gradients of losses of
            the model's own parameters, so that a training loop can give it the losses. Must be said
            by each class itself.
        least_steps: inner steps without which a task teaches nothing.
    """

    takes_losses: ClassVar[bool] = False
    least_steps: ClassVar[int] = 0

    def __init__(self, options: OptionsT, *, model: Model, problem: Problem) -> None:
        super().__init__(options, model=model, problem=problem)
        name = getattr(options, "inner_optimiser", "sgd")  # somebody's own options may have none
        if type(self).moved is not GradientSteps.moved and name != "sgd":
            raise ConfigError(
                f"inner_optimiser={name!r} but learner "
                f"{name_of(type(self))!r} has a way to move of its own; expected 'sgd'"
            )

    @property
    def optimiser(self) -> InnerOptimiser:
        """What follows the gradients."""
        return InnerOptimiser.of(self.options)

    def adapting(self, params: Params) -> Params:
        """Return those of ``params`` that inner steps move: by default, all."""
        return params

    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return alpha for a parameter in inner step ``index``: by default, ``inner_lr``."""
        options: Any = self.options
        rate: float = options.inner_lr
        return rate

    def slope(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return what is followed in place of the gradients: by default, they themselves."""
        return grads

    def moved(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor], index: int
    ) -> Params:
        """Return the fast parameters after inner step ``index``, given their ``grads``.

        Args:
            params: of the state.
            fast: those that move, and the optimiser's moments from the second step on.
            grads: for each of those that move.
            index: of the step, from 0.
        """
        slope = self.slope(params, without_moments(fast), grads)
        return self.optimiser.step(
            fast, slope, index, lambda name: self.step_size(params, name, index)
        )

    def task_gradient(
        self,
        params: Params,
        fast: Params,
        grads: Mapping[str, Tensor],
    ) -> Params:
        """Return the first-order meta-gradient of a task that a training loop went through.

        Args:
            params: of the state; leaves, from which ``fast`` was made by ``moved`` along constants.
            fast: adapted parameters.
            grads: gradient of the query loss for each of the model's parameters, those in ``fast``
                at their adapted values.
        """
        with torch.enable_grad():
            total = dot(fast, grads)
        found = torch.autograd.grad(
            total, list(params.values()), allow_unused=True, materialize_grads=True
        )
        whole = dict(zip(params, found, strict=True))
        still = {name: grad for name, grad in grads.items() if name not in fast}
        return whole | {name: whole[name] + grad for name, grad in still.items()}

    # moments are for steps alone

    def adapted(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the fast parameters after all inner steps."""
        return without_moments(super().adapted(params, support, context))

    def adapted_outputs(
        self,
        params: Params,
        fast: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Map inputs by fast parameters, normalised as a query set."""
        return super().adapted_outputs(params, without_moments(fast), support, inputs, context)
