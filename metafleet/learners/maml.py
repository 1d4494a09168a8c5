"""Model-agnostic meta-learning, second and first order."""

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.gradient_steps import GradientSteps, StepOptions
from metafleet.options import require
from metafleet.params import Params

OptionsT = TypeVar("OptionsT", bound="MamlOptions")


@dataclass(frozen=True, slots=True)
class MamlOptions(StepOptions):
    """Options of ``Maml`` and of learners derived from it.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
        inner_steps: gradient steps of the adaptation in meta-training, >= 1.
        inner_steps_eval: gradient steps in evaluation; None for ``inner_steps``.
        first_order: whether to drop second derivatives (FOMAML).
    """

    first_order: bool = False
    inner_lr: float = 0.4
    inner_steps: int = 5

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        require(self.inner_lr > 0.0, "inner_lr", self.inner_lr, "more than 0")


class MamlSteps(GradientSteps[OptionsT], Generic[OptionsT]):
    """The base of ``Maml`` and its variants: one step size alpha, optionally first order."""

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Return whether this episode drops second derivatives."""
        return self.options.first_order or super().is_first_order(context)

    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return alpha."""
        return self.options.inner_lr


class Maml(MamlSteps[MamlOptions]):
    """Learn an initialisation theta from which a few gradient steps fit an episode.

    Adaptation to the support set S takes the steps theta_{j+1} = theta_j - alpha * grad
    L_S(theta_j), from theta_0 = theta. After k steps, the adapted parameters are theta_k. The
    meta-gradient on the query set Q is d L_Q(theta_k) / d theta. With ``first_order``, it is d
    L_Q(theta_k) / d theta_k instead. In the code, the update is the last line of
    ``GradientSteps.moved``, a step is ``GradientSteps.inner_step``, the loop of steps is
    ``InnerLoopLearner.adapted``, and the meta-gradient is ``EpisodicLearner.meta_gradient``.

    Source: Finn et al. 2017, arXiv:1703.03400, eq. 1 and algorithms 2 and 3. Section 5.2 describes
    first order.
    """

    name: ClassVar[str] = "maml"
    Options: ClassVar[type] = MamlOptions
    takes_several_labels: ClassVar[bool] = True
    takes_losses: ClassVar[bool] = True
