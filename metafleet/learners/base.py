"""What a learner is and gives: a gradient of an episode, a judgement, an adaptation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Protocol, Self

from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState, Params, parted
from metafleet.problem import Problem

FAST: Final = "fast"
"""The group of ``Adaptation.memory`` that holds adapted parameters."""


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


class QueryGradient(NamedTuple):
    """What an episode says about the state.

    Attributes:
        grads: gradient for each of ``MetaState.params``.
        loss: what was differentiated, a scalar.
        outputs: of the query set: logits [n, n_way], or values [n, d].
    """

    grads: Params
    loss: Tensor
    outputs: Tensor


class EpisodeOutcome(NamedTuple):
    """All that leaves one episode in meta-training; tensors alone, so that it can be mapped.

    Attributes:
        query: gradient, loss and outputs.
        support_losses: a scalar for each inner step.
        statistics: batch statistics for each of ``MetaState.buffers``.
    """

    query: QueryGradient
    support_losses: list[Tensor]
    statistics: Params


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A learner that has adapted to a support set.

    Attributes:
        predict: inputs, modality -> [n, ...], to logits [n, n_way] or values [n, d]; may be called
            again and again.
        memory: what it predicts from besides the state, as the learner's ``remember`` returned it.
    """

    predict: Callable[[Mapping[str, Tensor]], Tensor]
    memory: Params

    @property
    def fast(self) -> Params:
        """The adapted parameters, of learners that adapt by inner steps; empty for others."""
        return parted(self.memory, FAST)


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
