"""What an episode computes: the part of a learner that its author writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.objective import mean_loss
from metafleet.learners.outcome import QueryGradient
from metafleet.learners.support_tensors import alike, keep_support, kept_support
from metafleet.models.base import Model, ModelFactory
from metafleet.params import MetaState, Params
from metafleet.problem import Problem
from metafleet.registry import name_of
from metafleet.seeds import CounterRng

OptionsT = TypeVar("OptionsT")


class EpisodeAlgorithm(ABC, Generic[OptionsT]):
    """The functions an episode is made of; ``EpisodicLearner`` says what they must be.

    Attributes:
        Options: the learner's options, a frozen dataclass.
        is_traceable: False for a learner that lets Python look at the values of tensors.

    Args:
        options: an instance of ``Options``.
        model: the network.
        problem: shapes of the data and the episodes.
    """

    Options: ClassVar[type]
    is_traceable: ClassVar[bool] = True

    def __init__(self, options: OptionsT, *, model: Model, problem: Problem) -> None:
        self.options = options
        self.model = model
        self.problem = problem
        self.check_batch_norm(model.batch_norm)

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Give the model a head as wide as the problem, which must be so in every split.

        Raises:
            ConfigError: the options do not fit the data.
        """
        model = make_model(problem.fixed_outputs(name_of(cls)))
        return cls(options, model=model, problem=problem)

    @property
    def batch_norm(self) -> str:
        """The model's batch norm mode."""
        return self.model.batch_norm

    @property
    def is_regression(self) -> bool:
        """True when targets are real values, not classes."""
        return self.problem.is_regression

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits, the mean squared error, or the problem's own."""
        if self.problem.loss is not None:
            return self.problem.loss(outputs, targets)
        return mean_loss(outputs, targets, is_regression=self.is_regression)

    @abstractmethod
    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Adapt to ``support`` and predict ``inputs``: logits [n, n_way], or values [n, d]."""

    def objective(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> tuple[Tensor, Tensor]:
        """Return what meta-training minimises, a scalar, and the query outputs it came from."""
        outputs = self.query_outputs(params, support, query.inputs, context)
        return self.loss(outputs, query.targets), outputs

    def meta_gradient(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> QueryGradient:
        """Differentiate ``objective`` for ``params``; ``grads`` has a tensor for each of them."""
        grads, loss, outputs = context.grad_aux(
            lambda own: self.objective(own, support, query, context), params, create_graph=False
        )
        return QueryGradient(grads, loss, outputs)

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters."""
        return MetaState(self.model.init_params(seed), self.model.init_buffers())

    def variant(self, step: int) -> str:
        """Name the computation that meta-training does in outer step ``step``.

        For what changes the computation itself, such as first order in the beginning; each name may
        be compiled once. Comes back as ``context.variant``.
        """
        return ""

    def schedule(self, step: int) -> Params:
        """Return numbers that change with the outer step, as small float32 tensors on the CPU.

        Come back as ``context.schedule``, in meta-training alone.
        """
        return {}

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw what is random in an episode; comes back as ``context.drawn``.

        Shapes depend on the arguments alone. In a prediction ``rng`` is the same each time.
        """
        return {}

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Refuse a support set that cannot be adapted to; may look at values.

        Raises:
            DataError: says why.
        """

    def remember(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Adapt, and return what ``recall`` needs of it as tensors: by default, the support set.

        Whoever writes one of the two writes the other.
        """
        return keep_support(support)

    def recall(
        self,
        params: Params,
        memory: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Predict ``inputs`` by what ``remember`` returned, as ``query_outputs`` does."""
        support, inputs = alike(kept_support(memory), inputs)
        n_query = len(next(iter(inputs.values())))
        context.drawn = self._drawn(context.seed, support, n_query)
        return self.query_outputs(params, support, inputs, context)

    @property
    def n_classes(self) -> int | None:
        """Return how many classes an episode must have, None where any number will do."""
        if self.is_regression:
            return None
        return self.problem.fixed_outputs(name_of(type(self)))

    def check_batch_norm(self, mode: str) -> None:
        """Refuse a batch norm mode that makes no sense here.

        Raises:
            ConfigError: names the mode.
        """
        if mode == "per_step":
            raise ConfigError(
                f"batch_norm={mode!r} but learner {name_of(type(self))!r} has no inner steps; "
                "expected another mode, such as 'running'"
            )

    # what is given by an ``EpisodeContext``

    def schedule_for(self, episode: Episode) -> Params:
        """Return the schedule of an episode's outer step, where and as precise as the episode."""
        return _like(self.schedule(episode.step), episode.support)

    def drawn_for(self, episode: Episode) -> Params:
        """Return what is drawn for an episode of meta-training."""
        return self._drawn(episode.seed, episode.support, len(episode.query))

    def _drawn(self, seed: int, support: ExampleSet, n_query: int) -> Params:
        return _like(self.draw(CounterRng(seed, "draw"), len(support), n_query), support)


def _like(tensors: Mapping[str, Tensor], support: ExampleSet) -> Params:
    """Move to where the support set is, floats to its precision."""
    example: Any = next(iter(support.inputs.values()))
    return {
        name: value.to(example.device, example.dtype if value.is_floating_point() else None)
        for name, value in tensors.items()
    }
