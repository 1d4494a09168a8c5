"""The learner protocol and its results: meta-gradients, episode metrics and adaptations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Protocol, Self

from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState, Params, parted
from metafleet.problem import Problem

FAST: Final = "fast"
"""The group in ``Adaptation.memory`` that holds the adapted parameters."""


@dataclass(frozen=True, slots=True)
class EpisodeMetrics:
    """The loss and accuracy of one episode.

    Attributes:
        loss: mean loss over the query set (cross-entropy or binary cross-entropy in nats, or mean
            squared error).
        accuracy: share of the query set that is classified correctly, in [0, 1]. If an item may
            have several labels, this is the mean average precision over the labels, in [0, 1]. None
            for regression.
    """

    loss: float
    accuracy: float | None


class EpisodeAnswer(NamedTuple):
    """The outputs for the query set of one episode, with the metrics that follow from them.

    Attributes:
        outputs: logits [n, n_way], or values [n, d].
        metrics: loss and accuracy.
    """

    outputs: Tensor
    metrics: EpisodeMetrics


@dataclass(frozen=True, slots=True)
class MetaGradient:
    """The meta-gradient and metrics of one or several episodes.

    Gradients and buffers are *sums* over the episodes, so that partial results can be added up in a
    tree.

    Attributes:
        grads: gradient of the query loss for each of ``MetaState.params``.
        buffers: batch statistics for each of ``MetaState.buffers``, as the episodes observed them.
        metrics: metrics of each episode, in the order of the episodes.
    """

    grads: Params
    buffers: Params
    metrics: tuple[EpisodeMetrics, ...]


class QueryGradient(NamedTuple):
    """The gradient of one episode's query loss, with the loss and the query outputs.

    Attributes:
        grads: gradient for each of ``MetaState.params``.
        loss: the query loss, the scalar that was differentiated.
        outputs: logits [n, n_way] or values [n, d] for the query set.
    """

    grads: Params
    loss: Tensor
    outputs: Tensor


class EpisodeOutcome(NamedTuple):
    """The results of one episode in meta-training.

    All fields are tensors, so that ``vmap`` can be applied to episodes.

    Attributes:
        query: gradient, loss and outputs.
        support_losses: the support losses of the inner steps, one scalar per step.
        statistics: batch statistics for each of ``MetaState.buffers``.
    """

    query: QueryGradient
    support_losses: list[Tensor]
    statistics: Params


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A learner that has adapted to a support set.

    Attributes:
        predict: a function from inputs (modality -> [n, ...]) to logits [n, n_way] or values [n,
            d]. It may be called any number of times.
        memory: the tensors that ``predict`` needs in addition to the state; the learner's
            ``remember`` returned them.
    """

    predict: Callable[[Mapping[str, Tensor]], Tensor]
    memory: Params

    @property
    def fast(self) -> Params:
        """The adapted parameters; empty for learners without inner steps."""
        return parted(self.memory, FAST)


class Learner(Protocol):
    """A meta-learning algorithm bound to a model. It is stateless: callers pass in all state."""

    @property
    def batch_norm(self) -> str:
        """The batch norm mode, which is printed with every result; "none" without batch norm."""
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
        """Adapt to one episode's support set and evaluate on its query set."""
        ...

    def predict(
        self, state: MetaState, support: ExampleSet, inputs: Mapping[str, Tensor], n_way: int
    ) -> Tensor:
        """Adapt to ``support`` and predict ``inputs``: logits [n, n_way], or values [n, d]."""
        ...


class LearnerClass(Learner, Protocol):
    """A learner class as the registry holds it: its options, and how to build it from them."""

    Options: ClassVar[type]

    @classmethod
    def build(cls, options: Any, problem: Problem, make_model: ModelFactory) -> Self:
        """Bind the learner to the data and to a model.

        Raises:
            ConfigError: the options do not fit the data.
        """
        ...
