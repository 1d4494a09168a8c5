"""A custom learner, in a package that workers are allowed to import."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.gradient_steps import GradientSteps, StepOptions
from metafleet.params import MetaState, Params

_RATE = "rate"


@dataclass(frozen=True, slots=True)
class SharedRateOptions(StepOptions):
    """Options of ``SharedRate``.

    Attributes:
        inner_lr: the first alpha.
    """

    inner_lr: float = 0.01


class SharedRate(GradientSteps[SharedRateOptions]):
    """MAML with one learned step size alpha, which all parameters share.

    Its meta-gradient is a sum over their names, whose last bits are those of the order of names.
    """

    Options: ClassVar[type] = SharedRateOptions

    def init_state(self, seed: int) -> MetaState:
        """Draw theta, and set alpha."""
        state = super().init_state(seed)
        alpha = next(iter(state.params.values())).new_full((), self.options.inner_lr)
        return MetaState({_RATE: alpha} | state.params, state.buffers)

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return theta."""
        return {name: value for name, value in params.items() if name != _RATE}

    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return alpha."""
        return params[_RATE]
