"""Model-agnostic meta-learning, second and first order."""

from dataclasses import dataclass
from typing import ClassVar

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.options import require
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class MamlOptions:
    """Options of ``Maml``.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
        inner_steps: gradient steps of the adaptation in meta-training, >= 1.
        inner_steps_eval: gradient steps when judged; None for ``inner_steps``.
        first_order: drop second derivatives (FOMAML).
    """

    inner_lr: float = 0.4
    inner_steps: int = 5
    inner_steps_eval: int | None = None
    first_order: bool = False

    def __post_init__(self) -> None:
        require(self.inner_lr > 0.0, "inner_lr", self.inner_lr, "more than 0")
        require(self.inner_steps >= 1, "inner_steps", self.inner_steps, "1 or more")
        n_eval = self.inner_steps_eval
        require(n_eval is None or n_eval >= 1, "inner_steps_eval", n_eval, "1 or more")


class Maml(InnerLoopLearner[MamlOptions]):
    """Learn an initialisation theta from which a few gradient steps fit an episode.

    The support set S adapts, theta_0 = theta, theta_{j+1} = theta_j - alpha * grad L_S(theta_j),
    and the query set Q judges: the meta-gradient is d L_Q(theta_k) / d theta. First order takes
    grad L_Q at theta_k in its place.

    Source: Finn et al. 2017, arXiv:1703.03400, eq. 1 and algorithms 2 and 3; first order in
    section 5.2.
    """

    Options: ClassVar[type] = MamlOptions

    def n_steps(self, *, is_training: bool) -> int:
        """Return the steps of meta-training, or those of evaluation."""
        in_training = self.options.inner_steps
        return in_training if is_training else self.options.inner_steps_eval or in_training

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
            create_graph=context.is_training and not self.options.first_order,
        )
        return {name: value - self.options.inner_lr * grads[name] for name, value in fast.items()}
