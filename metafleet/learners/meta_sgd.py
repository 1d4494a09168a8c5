"""Meta-SGD: a learned step size for each parameter."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.gradient_steps import GradientSteps, StepOptions
from metafleet.options import require
from metafleet.params import MetaState, Params
from metafleet.seeds import CounterRng


@dataclass(frozen=True, slots=True)
class MetaSgdOptions(StepOptions):
    """Options of ``MetaSgd``.

    Attributes:
        inner_lr_min, inner_lr_max: range from which the common initial value of all step sizes is
            drawn uniformly; 0 < min <= max.
        inner_steps: gradient steps of the adaptation in meta-training, >= 1. The paper uses 1.
        inner_steps_eval: gradient steps in evaluation; None for ``inner_steps``.
        first_order: whether to drop second derivatives.
    """

    first_order: bool = False
    inner_lr_min: float = 0.005
    inner_lr_max: float = 0.1

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        low, high = self.inner_lr_min, self.inner_lr_max
        require(low > 0.0, "inner_lr_min", low, "more than 0")
        require(high >= low, "inner_lr_max", high, f"inner_lr_min={low} or more")


class MetaSgd(GradientSteps[MetaSgdOptions]):
    """Learn an initialisation theta, and a step size for each element of theta.

    An inner step is theta' = theta - alpha o grad L_S(theta). Here alpha holds the step sizes and
    has the shape of theta, and o is the element-wise product. The step sizes therefore also change
    the direction of the step. The outer loop learns theta and alpha from the gradient d L_Q(theta')
    / d (theta, alpha). Elements of alpha may become negative. In the state, the step sizes of
    parameter "x" are named "rate.x".

    Source: Li et al. 2017, arXiv:1707.09835, eq. 2 and algorithm 1. The initial alpha is that of
    section 4.1.
    """

    name: ClassVar[str] = "meta_sgd"
    Options: ClassVar[type] = MetaSgdOptions
    takes_several_labels: ClassVar[bool] = True
    takes_losses: ClassVar[bool] = True

    def init_state(self, seed: int) -> MetaState:
        """Draw theta, and one initial value for all elements of alpha."""
        state = super().init_state(seed)
        low, high = self.options.inner_lr_min, self.options.inner_lr_max
        first = low + (high - low) * CounterRng(seed, "meta_sgd").uniform()
        rates = {
            f"rate.{name}": torch.full_like(v, first, dtype=v.dtype.to_real())
            for name, v in state.params.items()
        }
        return MetaState(state.params | rates, state.buffers)

    def adapting(self, params: Params) -> Params:
        """Return theta."""
        return {name: value for name, value in params.items() if f"rate.{name}" in params}

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Return whether this episode drops second derivatives."""
        return self.options.first_order or super().is_first_order(context)

    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return the alpha of a parameter."""
        return params[f"rate.{name}"]
