"""What a learner is: from a meta-learned state and an episode to a gradient, or a judgement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState, Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class EpisodeMetrics:
    """How one episode went.

    Attributes:
        loss: mean loss over the query set (cross-entropy in nats, or mean squared error).
        accuracy: share of the query set classified rightly, in [0, 1]; None for regression.
    """

    loss: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class MetaGradient:
    """A *sum* over episodes, never a mean: sums can be added along a tree.

    Attributes:
        grads: gradient of the query loss for each of ``MetaState.params``.
        buffers: batch statistics observed for each of ``MetaState.buffers``.
        metrics: one for each episode, in order of episode.
    """

    grads: Params
    buffers: Params
    metrics: tuple[EpisodeMetrics, ...]


class Learner(Protocol):
    """A meta-learning algorithm bound to a model. Stateless: all state is passed in."""

    @property
    def batch_norm(self) -> str:
        """Whose statistics normalise whom, to print with every result; "none" without any."""
        ...

    def init_state(self, seed: int) -> MetaState:
        """Draw the initial state; the same seed gives the same bits."""
        ...

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Adapt to one episode and differentiate its query loss.

        Raises:
            NumericsError: a loss or gradient is not finite.
        """
        ...

    def evaluate(self, state: MetaState, episode: Episode) -> EpisodeMetrics:
        """Adapt to one episode and judge it on its query set."""
        ...

    def predict(
        self, state: MetaState, support: ExampleSet, inputs: Mapping[str, Tensor], n_way: int
    ) -> Tensor:
        """Adapt to ``support`` and predict ``inputs``: logits [n, n_way], or values [n, d]."""
        ...


class LearnerClass(Learner, Protocol):
    """What the registry holds: options, and a way to build from them."""

    Options: ClassVar[type]

    @classmethod
    def build(cls, options: Any, problem: Problem, make_model: ModelFactory) -> Self:
        """Bind the learner to the data and to a model.

        Raises:
            ConfigError: the options do not fit the data.
        """
        ...
