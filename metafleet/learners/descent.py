"""The base of learners whose inner steps follow the gradient of the support loss."""

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.gradient_steps import GradientSteps
from metafleet.learners.inner_optimiser import InnerOptimiserOptions, without_moments
from metafleet.options import require_steps
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class StepOptions(InnerOptimiserOptions):
    """How many inner steps, and how exactly they are differentiated.

    Attributes:
        inner_steps: gradient steps of the adaptation in meta-training, 1 to a million.
        inner_steps_eval: gradient steps when judged; None for ``inner_steps``.
        first_order: drop second derivatives.
    """

    inner_steps: int = 1
    inner_steps_eval: int | None = None
    first_order: bool = False

    def __post_init__(self) -> None:
        # by name: the decorator makes a new class for the slots, which super() does not know
        InnerOptimiserOptions.__post_init__(self)
        require_steps("inner_steps", self.inner_steps)
        if self.inner_steps_eval is not None:
            require_steps("inner_steps_eval", self.inner_steps_eval)


StepOptionsT = TypeVar("StepOptionsT", bound=StepOptions)


class Descent(GradientSteps[StepOptionsT], Generic[StepOptionsT]):
    """Differentiates the support loss for the fast parameters, and lets ``moved`` follow it.

    Attributes:
        still: names of fast parameters that no step moves, such as features computed once.
    """

    still: ClassVar[frozenset[str]] = frozenset()

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the first fast parameters: by default, those that adapt."""
        return self.adapting(params)

    def n_steps(self, *, is_training: bool) -> int:
        """Return the steps of meta-training, or those of evaluation."""
        in_training = self.options.inner_steps
        return in_training if is_training else self.options.inner_steps_eval or in_training

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Tell whether second derivatives are dropped in this episode."""
        return not context.is_training or self.options.first_order

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
        grads = self.support_gradient(
            lambda own: self.support_loss(params, {**own, **still}, support, context),
            without_moments(moving),
            context,
            create_graph=not self.is_first_order(context),
        )
        return self.moved(params, moving, grads, index) | still
