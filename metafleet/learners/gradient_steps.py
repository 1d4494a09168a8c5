"""The base of learners whose inner steps follow the gradient of the support loss."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.inner_optimiser import (
    InnerOptimiser,
    InnerOptimiserOptions,
    with_decay,
    without_moments,
)
from metafleet.models.base import Model
from metafleet.options import name_of, require_steps
from metafleet.params import Params, dot
from metafleet.problem import Problem

OptionsT = TypeVar("OptionsT", bound="StepOptions")


@dataclass(frozen=True, slots=True)
class StepOptions(InnerOptimiserOptions):
    """The number of inner steps, and the optimiser that takes them.

    Attributes:
        inner_steps: gradient steps of the adaptation in meta-training, 1 to a million.
        inner_steps_eval: gradient steps in evaluation; None for ``inner_steps``.
    """

    inner_steps: int = 1
    inner_steps_eval: int | None = None

    def __post_init__(self) -> None:
        InnerOptimiserOptions.__post_init__(self)
        require_steps("inner_steps", self.inner_steps)
        if self.inner_steps_eval is not None:
            require_steps("inner_steps_eval", self.inner_steps_eval)


class GradientSteps(InnerLoopLearner[OptionsT], Generic[OptionsT]):
    """A learner that moves its fast parameters along the gradient of the support loss.

    The option ``inner_optimiser`` selects the update rule. If the optimiser has moments, they are
    stored with the fast parameters.

    Attributes:
        still: names of fast parameters that inner steps do not move, for example features that are
            computed once.
        takes_losses: True for a learner whose inner steps need only losses and their gradients with
            respect to the model's own parameters. A training loop can then compute the losses and
            pass them to the learner. Each class must set this attribute.
        least_steps: the minimum number of inner steps that a task needs to have a meta-gradient.
    """

    still: ClassVar[frozenset[str]] = frozenset()
    takes_losses: ClassVar[bool] = False
    least_steps: ClassVar[int] = 0

    def __init__(self, options: OptionsT, *, model: Model, problem: Problem) -> None:
        super().__init__(options, model=model, problem=problem)
        name = options.inner_optimiser
        if type(self).moved is not GradientSteps.moved and name != "sgd":
            raise ConfigError(
                f"inner_optimiser={name!r} but learner "
                f"{name_of(type(self))!r} has a way to move of its own; expected 'sgd'"
            )

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the initial fast parameters: by default, the parameters that adapt."""
        return self.adapting(params)

    def n_steps(self, *, is_training: bool) -> int:
        """Return the number of steps in meta-training, or in evaluation."""
        in_training = self.options.inner_steps
        return in_training if is_training else self.options.inner_steps_eval or in_training

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Return whether second derivatives are dropped; by default, only outside meta-training."""
        return not context.is_training

    def inner_step(
        self,
        params: Params,
        fast: Params,
        index: int,
        support: ExampleSet,
        context: EpisodeContext,
    ) -> Params:
        """Return theta_{j+1}."""
        still = {name: value for name, value in fast.items() if name in self.still}
        moving = {name: value for name, value in fast.items() if name not in still}
        examples = self.batch(support, index, context)
        grads = self.support_gradient(
            lambda own: self.support_loss(params, {**own, **still}, examples, context),
            without_moments(moving),
            context,
            create_graph=not self.is_first_order(context),
        )
        return self.moved(params, moving, grads, index) | still

    def batch(self, support: ExampleSet, index: int, context: EpisodeContext) -> ExampleSet:
        """Return the examples of inner step ``index``: by default, the support set."""
        return support

    @property
    def optimiser(self) -> InnerOptimiser | None:
        """The optimiser of the inner steps; None for plain gradient descent."""
        return InnerOptimiser.of(self.options)

    def adapting(self, params: Params) -> Params:
        """Return the parameters that inner steps move: by default, all of ``params``."""
        return params

    @abstractmethod
    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return alpha for a parameter in inner step ``index``."""

    def inner_rates(self, params: Params) -> dict[str, tuple[float, ...]]:
        """Return the learned step sizes: parameter -> mean step size in each inner step.

        The mean is over the elements of the parameter. Parameters whose step size is not learned
        are left out.
        """
        steps = range(self.n_steps(is_training=True))
        found = {
            name: [self.step_size(params, name, index) for index in steps]
            for name in self.adapting(params)
        }
        return {
            name: tuple(float(rate.detach().mean()) for rate in rates if isinstance(rate, Tensor))
            for name, rates in found.items()
            if isinstance(rates[0], Tensor)
        }

    def slope(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return the direction to descend: by default, the gradients."""
        return grads

    def moved(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor], index: int
    ) -> Params:
        """Return the fast parameters after inner step ``index``.

        Args:
            params: parameters of the state.
            fast: the parameters that move. From the second step on, these include the optimiser's
                moments.
            grads: a gradient for each parameter that moves.
            index: index of the step, from 0.
        """
        theta = without_moments(fast)
        slope = with_decay(self.options, theta, self.slope(params, theta, grads))
        alpha = partial(self.step_size, params, index=index)
        if (optimiser := self.optimiser) is not None:
            return optimiser.step(fast, slope, index, alpha)
        return {name: theta[name] - alpha(name) * slope[name] for name in theta}

    def task_gradient(
        self,
        params: Params,
        fast: Params,
        grads: Mapping[str, Tensor],
    ) -> Params:
        """Return the first-order meta-gradient of a task that ran in a training loop.

        Args:
            params: parameters of the state, as leaves of the autograd graph. The method ``moved``
                has computed ``fast`` from them, with gradients treated as constants.
            fast: adapted parameters.
            grads: gradient of the query loss with respect to each of the model's parameters. It is
                computed at the adapted values of the parameters that ``fast`` holds.
        """
        with torch.enable_grad():
            total = dot(fast, grads)
        found = torch.autograd.grad(
            total, list(params.values()), allow_unused=True, materialize_grads=True
        )
        whole = dict(zip(params, found, strict=True))
        still = {name: grad for name, grad in grads.items() if name not in fast}
        return whole | {name: whole[name] + grad for name, grad in still.items()}

    # only inner steps use the moments

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
        """Apply the adapted model to ``inputs``, normalised as a query set."""
        return super().adapted_outputs(params, without_moments(fast), support, inputs, context)
