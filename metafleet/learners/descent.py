"""The base of learners whose inner steps follow the gradient of the support loss."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.options import require
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How many inner steps, and how exactly they are differentiated.

    Attributes:
        inner_steps: gradient steps of the adaptation in meta-training, >= 1.
        inner_steps_eval: gradient steps when judged; None for ``inner_steps``.
        first_order: drop second derivatives.
    """

    inner_steps: int = 1
    inner_steps_eval: int | None = None
    first_order: bool = False

    def __post_init__(self) -> None:
        require(self.inner_steps >= 1, "inner_steps", self.inner_steps, "1 or more")
        n_eval = self.inner_steps_eval
        require(n_eval is None or n_eval >= 1, "inner_steps_eval", n_eval, "1 or more")


StepOptionsT = TypeVar("StepOptionsT", bound=StepOptions)


class Descent(InnerLoopLearner[StepOptionsT], Generic[StepOptionsT]):
    """Differentiates the support loss for the fast parameters, and lets ``moved`` follow it."""

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
        grads = self.support_gradient(
            lambda own: self.support_loss(params, own, support, context),
            fast,
            context,
            create_graph=not self.is_first_order(context),
        )
        return self.moved(params, fast, grads, index)

    @abstractmethod
    def moved(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor], index: int
    ) -> Params:
        """Return the fast parameters after inner step ``index``, given their ``grads``."""
