"""The base of learners whose episode is a pure function of their state.

A subclass defines what an episode computes. The executor decides how episodes are computed: one at
a time, mapped over many episodes, traced, or in constant memory. The executor passes an
``EpisodeContext`` to the learner. For an example see docs/how-to/learners.md.
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
    EpisodeAnswer,
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
    """Base class of learners that implement ``Learner`` by a pure function of one episode.

    Subclasses must implement ``query_outputs``. They may override ``objective``, the function that
    is differentiated. By default, ``objective`` is the mean loss of the query outputs. If the
    meta-gradient is not a derivative, they override ``meta_gradient``. The results of these methods
    must depend only on their arguments. The methods must keep no state, use no global generator,
    write nothing in place, and not branch on tensor values.

    Attributes:
        Options: the learner's options, a frozen dataclass.
        is_traceable: False for a learner that branches on tensor values. Its episodes are always
            computed one at a time, by autograd.
        takes_several_labels: True for a learner that supports items with several labels, whose
            targets are [n, n_way] of 0 and 1. Such a learner either uses targets only in its loss,
            or has its own code for targets of this shape.

    Args:
        options: an instance of ``Options``.
        model: the network.
        problem: the shapes of data and episodes.
    """

    Options: ClassVar[type]
    is_traceable: ClassVar[bool] = True
    takes_several_labels: ClassVar[bool] = False

    def __init__(self, options: OptionsT, *, model: Model, problem: Problem) -> None:
        self.options = options
        self.model = model
        self.problem = problem
        self.check_batch_norm(model.batch_norm)

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the model, with a head that has the same number of outputs in all splits.

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
        """Whether the targets are real values rather than classes."""
        return self.problem.is_regression

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the problem's loss; by default mean cross-entropy or mean squared error."""
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
        """Return the scalar that meta-training minimises, and the query outputs."""
        outputs = self.query_outputs(params, support, query.inputs, context)
        return self.loss(outputs, query.targets), outputs

    def meta_gradient(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> QueryGradient:
        """Differentiate ``objective``; ``grads`` has a tensor for each of ``params``."""
        grads, loss, outputs = context.grad_aux(
            lambda own: self.objective(own, support, query, context), params, create_graph=False
        )
        return QueryGradient(grads, loss, outputs)

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters."""
        return MetaState(self.model.init_params(seed), self.model.init_buffers())

    def variant(self, step: int) -> str:
        """Return a name for the computation that meta-training does in outer step ``step``.

        Override this method if the computation itself changes with the step, for example if the
        first steps are first order. Each additional name can cost one more compilation. The
        method's result is available as ``context.variant``.
        """
        return ""

    def schedule(self, step: int) -> Params:
        """Return numbers that change with the outer step, as small float32 tensors on the CPU.

        In meta-training, the numbers are available as ``context.schedule``.
        """
        return {}

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw an episode's random numbers, which are then available as ``context.drawn``.

        The shapes of the numbers must depend only on the arguments. All predictions from one
        adaptation get the same ``rng``.
        """
        return {}

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Check that the learner can adapt to a support set. The check may read tensor values.

        Raises:
            DataError: the learner cannot adapt to the support set; the message gives the reason.
        """

    def remember(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Adapt, and return the tensors that ``recall`` needs: by default, the support set.

        A subclass that overrides ``remember`` must override ``recall``, and vice versa.
        """
        return keep_support(support)

    def recall(
        self,
        params: Params,
        memory: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Predict ``inputs`` from what ``remember`` returned, as ``query_outputs`` does."""
        support, inputs = alike(kept_support(memory), inputs)
        n_query = len(next(iter(inputs.values())))
        context.drawn = self._drawn(context.seed, support, n_query)
        return self.query_outputs(params, support, inputs, context)

    @property
    def n_classes(self) -> int | None:
        """Return how many classes an episode must have; None if any number is allowed."""
        if self.is_regression:
            return None
        return self.problem.fixed_outputs(name_of(type(self)))

    def check_batch_norm(self, mode: str) -> None:
        """Check that the learner supports a batch norm mode.

        Raises:
            ConfigError: the learner does not support the mode; the message names the mode.
        """
        if mode == "per_step":
            raise ConfigError(
                f"batch_norm={mode!r} but learner {name_of(type(self))!r} has no inner steps; "
                "expected another mode, such as 'running'"
            )

    # execution of an episode

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        """Adapt to one episode and differentiate its objective by autograd.

        Raises:
            NumericsError: a loss or gradient is not finite.
        """
        self.check_support(episode.support, episode.n_way)
        with torch.no_grad():  # ``context.grad`` records what it differentiates
            outcome = self.compute(state.params, episode, self.training_context(state, episode))
        return self.finish(outcome, episode)

    def evaluate(self, state: MetaState, episode: Episode) -> EpisodeMetrics:
        """Adapt to one episode's support set and evaluate on its query set.

        Raises:
            NumericsError: a loss is not finite.
        """
        return self.answer(state, episode).metrics

    def answer(self, state: MetaState, episode: Episode) -> EpisodeAnswer:
        """Do the same as ``evaluate``, and return the outputs for the query set as well."""
        outputs = self._predict(
            state, episode.support, episode.query.inputs, episode.n_way, seed=episode.seed
        )
        targets = episode.query.targets
        loss = self.loss(outputs, targets)
        metrics = judge(outputs, targets, loss, is_regression=self.is_regression)
        return EpisodeAnswer(outputs, metrics)

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
        """Adapt to ``support`` once, for any number of predictions.

        Args:
            state: the trained state. The caller must not change it afterwards.
            support: the support set. If ``remember`` returns it, the caller must not change it
                afterwards.
            n_way: number of classes; 0 for regression.
            seed: seed for ``draw``.

        Raises:
            DataError: the learner cannot adapt to the support set.
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
        """Predict ``inputs`` from the result of ``adapt`` for the same state, n_way and seed.

        Outputs may differ from those of ``predict`` by rounding. The support set is not part of
        this computation, so sums are grouped differently.

        Raises:
            NumericsError: a support loss is not finite.
        """
        context = self._context(state, n_way, seed=seed)
        with torch.no_grad():
            outputs = self.recall(state.params, memory, inputs, context)
        self.require_finite(context.support_losses())
        return outputs

    def compute(self, params: Params, episode: Episode, context: EpisodeContext) -> EpisodeOutcome:
        """Compute one episode of meta-training: a pure function of tensors, without checks."""
        query = self.meta_gradient(params, episode.support, episode.query, context)
        return EpisodeOutcome(query, context.support_losses(), context.norm.statistics())

    def finish(self, outcome: EpisodeOutcome, episode: Episode) -> MetaGradient:
        """Check that losses and gradients are finite, and compute the metrics.

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
        """Check that the adaptation did not diverge.

        Raises:
            NumericsError: a support loss is not finite; the message names the inner step.
        """
        # One check at the end is enough, because a diverged adaptation stays non-finite. A check at
        # each step would make the GPU wait.
        require_finite_losses(support_losses, inner_lr=getattr(self.options, "inner_lr", None))

    def training_context(self, state: MetaState, episode: Episode) -> EpisodeContext:
        """Make the context of one episode of meta-training, for autograd."""
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
        """Make the context of a prediction or an evaluation."""
        context = self._context(state, n_way, seed=seed)
        context.drawn = self._drawn(seed, support, n_query)
        return context

    def _context(self, state: MetaState, n_way: int, *, seed: int) -> EpisodeContext:
        """Make the context of a prediction, without its random draws."""
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
        """Return the schedule of an episode's outer step, on the episode's device, in its dtype."""
        return _like(self.schedule(episode.step), episode.support)

    def drawn_for(self, episode: Episode) -> Params:
        """Return the random draws of an episode of meta-training."""
        return self._drawn(episode.seed, episode.support, len(episode.query))

    def _drawn(self, seed: int, support: ExampleSet, n_query: int) -> Params:
        return _like(self.draw(CounterRng(seed, "draw"), len(support), n_query), support)


def _like(tensors: Mapping[str, Tensor], support: ExampleSet) -> Params:
    """Move tensors to the support set's device, and floats to its dtype."""
    example: Any = next(iter(support.inputs.values()))
    return {
        name: value.to(example.device, example.dtype if value.is_floating_point() else None)
        for name, value in tensors.items()
    }
