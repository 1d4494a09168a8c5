"""Reptile: move towards the parameters at which training on an episode ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.base import QueryGradient
from metafleet.learners.context import EpisodeContext
from metafleet.learners.gradient_steps import GradientSteps, StepOptions
from metafleet.learners.inner_optimiser import InnerOptimiser
from metafleet.options import require
from metafleet.params import Params
from metafleet.seeds import CounterRng

_ORDER = "order"


@dataclass(frozen=True, slots=True)
class ReptileOptions(StepOptions):
    """Options of ``Reptile``.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
        inner_steps: steps of the adaptation in meta-training, >= 1. Use at least 2, because with a
            single step Reptile is plain training on all episodes.
        inner_steps_eval: steps in evaluation; None for ``inner_steps``.
        inner_batch: support examples per step, >= 0. 0 means all support examples.
        inner_batch_eval: support examples per step in evaluation; None for ``inner_batch``.
        inner_optimiser: as in ``InnerOptimiserOptions``. If ``inner_optimiser`` is "adam" and
            ``inner_momentum`` is None, the momentum is 0, because the paper's Adam has no first
            moment.
    """

    inner_lr: float = 0.001
    inner_steps: int = 5
    inner_steps_eval: int | None = 50
    inner_batch: int = 10
    inner_batch_eval: int | None = 5
    inner_optimiser: Literal["sgd", "momentum", "nesterov", "adam", "adamw"] = "adam"

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        require(self.inner_lr > 0.0, "inner_lr", self.inner_lr, "more than 0")
        for option in ("inner_batch", "inner_batch_eval"):
            size = getattr(self, option)
            require(size is None or size >= 0, option, size, "0 or more")


class Reptile(GradientSteps[ReptileOptions]):
    """Learn an initialisation phi that is close to the parameters W after training on an episode.

    k steps of SGD or Adam on small batches of the support set lead from phi to W. The meta-gradient
    g = (phi - W) / alpha needs no derivative of the steps. The meta-gradient does not depend on the
    query set. The query loss is only reported. The outer optimiser "sgd" with lr = epsilon * alpha
    gives the paper's update phi <- phi + epsilon * (W - phi).

    The batches iterate over the support set, in a new random order for each pass. Adam's moments
    start at zero in each episode. In the authors' code, Adam's second moment carries over from one
    episode to the next.

    Source: Nichol et al. 2018, arXiv:1803.02999, algorithms 1 and 2. The meta-gradient g is defined
    in section 5.1. The defaults are those of appendix A (Omniglot, 5-way 1-shot).
    """

    name: ClassVar[str] = "reptile"
    Options: ClassVar[type] = ReptileOptions
    takes_losses: ClassVar[bool] = True
    least_steps: ClassVar[int] = 1

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw an order of the support set for each pass that the steps can need."""
        n_rounds = -(-self._n_examples(n_support) // n_support)
        rounds = [rng.sample(n_support, n_support) for _ in range(n_rounds)]
        return {_ORDER: torch.tensor(rounds).flatten()}

    def meta_gradient(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> QueryGradient:
        """Return (phi - W) / alpha."""
        fast = self.adapted(params, support, context)
        outputs = self.adapted_outputs(params, fast, support, query.inputs, context)
        grads = self.task_gradient(params, fast, {})
        return QueryGradient(grads, self.loss(outputs, query.targets), outputs)

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Return True, because the inner steps are not differentiated."""
        return True

    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return alpha."""
        return self.options.inner_lr

    @property
    def optimiser(self) -> InnerOptimiser | None:
        """The optimiser of the inner steps."""
        if self.options.inner_optimiser == "adam":
            return InnerOptimiser.of(self.options, momentum=0.0)
        return InnerOptimiser.of(self.options)

    def task_gradient(self, params: Params, fast: Params, grads: Mapping[str, Tensor]) -> Params:
        """Return (phi - W) / alpha; the query loss is not used."""
        return {n: (phi - fast[n]).detach() / self.options.inner_lr for n, phi in params.items()}

    def batch(self, support: ExampleSet, index: int, context: EpisodeContext) -> ExampleSet:
        """Return the next examples of the support set, in the drawn order."""
        size = self._size(len(support), is_training=context.is_training)
        if size == len(support):
            return support
        chosen: Tensor = context.drawn[_ORDER][index * size : (index + 1) * size]
        inputs = {name: values[chosen] for name, values in support.inputs.items()}
        return ExampleSet(inputs, support.targets[chosen])

    def _size(self, n_support: int, *, is_training: bool) -> int:
        size = self.options.inner_batch
        if not is_training and self.options.inner_batch_eval is not None:
            size = self.options.inner_batch_eval
        return min(size, n_support) if size > 0 else n_support

    def _n_examples(self, n_support: int) -> int:
        """Return the largest number of examples that the steps see, in training or evaluation."""
        return max(
            self.n_steps(is_training=flag) * self._size(n_support, is_training=flag)
            for flag in (True, False)
        )
