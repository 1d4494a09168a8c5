"""The base of learners whose episode is a pure function of their state.

A subclass writes what an episode computes. How it is computed (by itself, mapped over many, traced,
with constant memory) is decided elsewhere and given by the ``EpisodeContext``. An example stands in
docs/how-to/learners.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet, alike, keep_support, kept_support
from metafleet.errors import ConfigError
from metafleet.learners.base import (
    Adaptation,
    EpisodeMetrics,
    EpisodeOutcome,
    MetaGradient,
    QueryGradient,
)
from metafleet.learners.context import EpisodeContext
from metafleet.learners.objective import (
    apart,
    judge,
    mean_loss,
    require_finite_gradients,
    require_finite_losses,
)
from metafleet.models.base import Model, ModelFactory
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.notes import Notes
from metafleet.options import name_of
from metafleet.params import MetaState, Params
from metafleet.problem import Problem
from metafleet.seeds import CounterRng

OptionsT = TypeVar("OptionsT")


class EpisodicLearner(ABC, Generic[OptionsT]):
    """A learner bound to a model; a ``Learner`` once a subclass says what an episode computes.

    ``query_outputs`` must be written. ``objective`` is what is differentiated, by default the mean
    loss of the query outputs; ``meta_gradient`` says otherwise where the meta-gradient is no
    derivative. All are functions of their arguments alone: no state is kept, no global generator
    moves, nothing is written in place, and Python does not branch on the value of a tensor.

    Attributes:
        Options: the learner's options, a frozen dataclass.
        is_traceable: False for a learner that breaks the last rule: its episodes are then always
            computed one by one, by autograd.

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

    # how an episode is executed

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Adapt to one episode and differentiate, by autograd.

        Raises:
            NumericsError: a loss or gradient is not finite.
        """
        self.check_support(episode.support, episode.n_way)
        with torch.no_grad():  # what is to be recorded, ``context.grad`` records
            outcome = self.compute(state.params, episode, self.training_context(state, episode))
        return self.finish(outcome, episode)

    def evaluate(self, state: MetaState, episode: Episode) -> EpisodeMetrics:
        """Adapt to one episode and judge it on its query set.

        Raises:
            NumericsError: a loss is not finite.
        """
        outputs = self._predict(
            state, episode.support, episode.query.inputs, episode.n_way, seed=episode.seed
        )
        targets = episode.query.targets
        return judge(
            outputs, targets, self.loss(outputs, targets), is_regression=self.is_regression
        )

    def predict(
        self, state: MetaState, support: ExampleSet, inputs: Mapping[str, Tensor], n_way: int
    ) -> Tensor:
        """Adapt to ``support`` and predict ``inputs``: logits [n, n_way], or values [n, d].

        Raises:
            NumericsError: a support loss is not finite.
        """
        return self._predict(state, support, inputs, n_way, seed=0)

    def adapt(
        self, state: MetaState, support: ExampleSet, n_way: int, *, seed: int = 0
    ) -> Adaptation:
        """Adapt to ``support``, to predict more than once.

        Args:
            state: what was learned; must not be changed afterwards.
            support: the support set; must not be changed either, where ``remember`` returns it.
            n_way: its classes; 0 for regression.
            seed: of what is drawn.

        Raises:
            DataError: the support set cannot be adapted to.
            NumericsError: a support loss is not finite.
        """
        self.check_support(support, n_way)
        context = self.judging_context(state, support, n_way, n_query=1, seed=seed)
        with torch.no_grad():
            memory = self.remember(state.params, support, context)
        self.require_finite(context.support_losses())
        return Adaptation(
            lambda inputs: self.predict_from(state, memory, inputs, n_way, seed=seed), memory
        )

    def predict_from(
        self,
        state: MetaState,
        memory: Params,
        inputs: Mapping[str, Tensor],
        n_way: int,
        *,
        seed: int = 0,
    ) -> Tensor:
        """Predict ``inputs`` by what ``adapt`` left, with its state, ``n_way`` and seed.

        Outputs may differ from those of ``predict`` by rounding: where the support set is not
        computed again, sums are grouped in another way.

        Raises:
            NumericsError: a support loss is not finite.
        """
        context = self._context(state, n_way, seed=seed)
        with torch.no_grad():
            outputs = self.recall(state.params, memory, inputs, context)
        self.require_finite(context.support_losses())
        return outputs

    def compute(self, params: Params, episode: Episode, context: EpisodeContext) -> EpisodeOutcome:
        """Compute one episode of meta-training: pure, of tensors alone, nothing is checked."""
        query = self.meta_gradient(params, episode.support, episode.query, context)
        return EpisodeOutcome(query, context.support_losses(), context.norm.statistics())

    def finish(self, outcome: EpisodeOutcome, episode: Episode) -> MetaGradient:
        """Refuse what is not finite and judge the query outputs.

        Raises:
            NumericsError: a loss or gradient is not finite.
        """
        query = outcome.query
        self.require_finite(outcome.support_losses)
        metrics = judge(
            query.outputs.detach(),
            episode.query.targets,
            query.loss.detach(),
            is_regression=self.is_regression,
        )
        require_finite_gradients(query.grads, query.loss)
        return MetaGradient(apart(query.grads), outcome.statistics, (metrics,))

    def require_finite(self, support_losses: list[Tensor]) -> None:
        """Refuse an adaptation that diverged.

        Raises:
            NumericsError: a support loss is not finite; names the inner step.
        """
        # looked at once and not at each step: what diverged stays so, and GPUs need not wait
        require_finite_losses(support_losses, inner_lr=getattr(self.options, "inner_lr", None))

    def training_context(self, state: MetaState, episode: Episode) -> EpisodeContext:
        """Make the surroundings of one episode of meta-training, for autograd."""
        notes = Notes()
        return EpisodeContext(
            n_way=episode.n_way,
            is_training=True,
            norm=EpisodeNorm(self.batch_norm, state.buffers, is_training=True, notes=notes),
            notes=notes,
            variant=self.variant(episode.step),
            schedule=self.schedule_for(episode),
            drawn=self.drawn_for(episode),
        )

    def judging_context(
        self, state: MetaState, support: ExampleSet, n_way: int, *, n_query: int, seed: int
    ) -> EpisodeContext:
        """Make the surroundings of a prediction."""
        context = self._context(state, n_way, seed=seed)
        context.drawn = self._drawn(seed, support, n_query)
        return context

    def _context(self, state: MetaState, n_way: int, *, seed: int) -> EpisodeContext:
        """Surround what is not training; nothing is drawn yet."""
        notes = Notes()
        norm = EpisodeNorm(self.batch_norm, state.buffers, is_training=False, notes=notes)
        return EpisodeContext(n_way=n_way, is_training=False, norm=norm, notes=notes, seed=seed)

    def _predict(
        self,
        state: MetaState,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        n_way: int,
        *,
        seed: int,
    ) -> Tensor:
        self.check_support(support, n_way)
        n_query = len(next(iter(inputs.values())))
        context = self.judging_context(state, support, n_way, n_query=n_query, seed=seed)
        with torch.no_grad():
            outputs = self.query_outputs(state.params, support, inputs, context)
        self.require_finite(context.support_losses())
        return outputs

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
