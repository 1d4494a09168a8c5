"""The base of learners whose episode is a pure function of their state.

A subclass writes what an episode computes (``EpisodeAlgorithm``); how it is computed (by itself,
mapped over many, traced, with constant memory) is decided elsewhere and given by the
``EpisodeContext``. docs/learners.md shows how.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.learners.adaptation import Adaptation
from metafleet.learners.algorithm import EpisodeAlgorithm
from metafleet.learners.base import EpisodeMetrics, MetaGradient
from metafleet.learners.context import EpisodeContext
from metafleet.learners.objective import (
    apart,
    judge,
    require_finite_gradients,
    require_finite_losses,
)
from metafleet.learners.outcome import EpisodeOutcome
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.notes import Notes
from metafleet.params import MetaState, Params

OptionsT = TypeVar("OptionsT")


class EpisodicLearner(EpisodeAlgorithm[OptionsT], Generic[OptionsT]):
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

    # how an episode is executed

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
