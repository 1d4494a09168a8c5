"""The base of learners that adapt by inner steps."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.base import FAST, EpisodeMetrics
from metafleet.learners.context import EpisodeContext
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.objective import judge
from metafleet.models.episode_norm import STATISTICS
from metafleet.options import name_of
from metafleet.params import MetaState, Params, named, parted

OptionsT = TypeVar("OptionsT")


class InnerLoopLearner(EpisodicLearner[OptionsT], Generic[OptionsT]):
    """A learner that adapts by inner steps on *fast* parameters, which it derives from the state.

    A subclass implements ``n_steps`` and ``inner_step``, and optionally overrides ``start``,
    ``outputs`` and ``step_weights``. Fast parameters are named tensors: all or some of the model's
    parameters, or tensors that the learner adds. An episode calls ``start``, then ``inner_step``
    for the steps 0, 1, ..., and then ``outputs``. During the inner steps, ``context.normalise`` is
    the batch norm of the support set. Afterwards, it is the batch norm of the query set.

    Attributes:
        reads_targets: True for a learner that uses the targets for something other than the loss.
            With such a learner, a loss function cannot exclude support examples by ignoring their
            targets.
    """

    reads_targets: ClassVar[bool] = False

    @abstractmethod
    def n_steps(self, *, is_training: bool) -> int:
        """Return the number of inner steps, >= 1, in meta-training or in evaluation."""

    @abstractmethod
    def inner_step(
        self,
        params: Params,
        fast: Params,
        index: int,
        support: ExampleSet,
        context: EpisodeContext,
    ) -> Params:
        """Return the fast parameters after inner step ``index``, counted from 0."""

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the initial fast parameters: by default, all of ``params``."""
        return params

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to outputs: by default, the model with ``fast``."""
        return self.model.forward(fast, inputs, context.normalise)

    def step_weights(self, context: EpisodeContext) -> Tensor | None:
        """Return the weight of the query loss after each inner step, [n_steps].

        None means that only the loss after the last step counts. This method is called in
        meta-training only.
        """
        return None

    def support_gradient(
        self,
        loss_fn: Callable[[Params], Tensor],
        fast: Params,
        context: EpisodeContext,
        *,
        create_graph: bool,
    ) -> Params:
        """Differentiate a support loss with respect to ``fast``, and record this inner step's loss.

        Raises:
            ConfigError: there are no parameters to adapt.
        """
        self.require_some(fast)
        grads, loss = context.grad(loss_fn, fast, create_graph=create_graph)
        context.note_support_loss(loss)
        return grads

    def require_some(self, adapted: Params) -> None:
        """Check that at least one parameter can be adapted. All may be frozen in a user's module.

        Raises:
            ConfigError: there are no parameters to adapt.
        """
        if not adapted:
            raise ConfigError(
                f"learner {name_of(type(self))!r} has nothing to adapt: all the parameters that it "
                "adapts are frozen; set requires_grad on some, or choose a learner that compares "
                "embeddings, such as 'protonet'"
            )

    def support_loss(
        self, params: Params, fast: Params, support: ExampleSet, context: EpisodeContext
    ) -> Tensor:
        """Return the mean loss on the support set."""
        return self.loss(self.outputs(params, fast, support.inputs, context), support.targets)

    def inner_metrics(
        self, state: MetaState, episode: Episode
    ) -> list[tuple[EpisodeMetrics, EpisodeMetrics]]:
        """Adapt as ``evaluate`` does, and measure the episode after each inner step.

        Returns:
            A pair for each of the inner steps 0 to N: metrics on the support set, and metrics on
            the query set. Pair 0 is of the parameters before the first inner step. The query
            metrics of the last pair equal those of ``evaluate``.

        Raises:
            NumericsError: a loss is not finite.
        """
        support, query, n_way = episode.support, episode.query, episode.n_way
        self.check_support(support, n_way)
        context = self.judging_context(state, support, n_way, n_query=len(query), seed=episode.seed)
        params, found = state.params, []
        with torch.no_grad():
            fast = self.begin(params, support, context)
            found.append(self._measured(params, fast, support, query, context))
            for index in range(self.n_steps(is_training=False)):
                fast = self.advance(params, fast, index, support, context)
                found.append(self._measured(params, fast, support, query, context))
        self.require_finite(context.support_losses())
        return found

    # internals that subclasses rarely override

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's parameters."""
        return MetaState(self.model.init_params(seed), self.init_buffers())

    def init_buffers(self) -> Params:
        """Return the model's buffers; batch norm "per_step" has a row for each inner step."""
        buffers = self.model.init_buffers()
        if self.batch_norm != "per_step":
            return buffers
        rows = self.n_steps(is_training=True)
        return {name: value.expand(rows, *value.shape).clone() for name, value in buffers.items()}

    def check_batch_norm(self, mode: str) -> None:
        """Accept every mode."""

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Adapt to ``support`` and apply the adapted model to ``inputs``."""
        fast = self.adapted(params, support, context)
        return self.adapted_outputs(params, fast, support, inputs, context)

    def objective(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> tuple[Tensor, Tensor]:
        """Return the query loss after the last inner step, or a weighted sum over all steps."""
        weights = self.step_weights(context)
        if weights is None:
            return super().objective(params, support, query, context)
        total, outputs = torch.zeros_like(weights[0]), torch.empty(0)
        fast = self.begin(params, support, context)
        for index, weight in enumerate(weights.unbind()):
            fast = self.advance(params, fast, index, support, context)
            outputs = self.adapted_outputs(params, fast, support, query.inputs, context)
            total = total + weight * self.loss(outputs, query.targets)
        return total, outputs

    def adapted(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the fast parameters after all inner steps."""
        fast = self.begin(params, support, context)
        for index in range(self.n_steps(is_training=context.is_training)):
            fast = self.advance(params, fast, index, support, context)
        return fast

    def begin(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Make the initial fast parameters, with the context of the first inner step."""
        context.enter_step(0)
        return self.start(params, support, context)

    def advance(
        self,
        params: Params,
        fast: Params,
        index: int,
        support: ExampleSet,
        context: EpisodeContext,
    ) -> Params:
        """Run inner step ``index``.

        Raises:
            StaleError: the result is no longer needed.
        """
        context.enter_step(index)
        return self.inner_step(params, fast, index, support, context)

    def adapted_outputs(
        self,
        params: Params,
        fast: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the adapted model to ``inputs``, normalised as a query set."""
        self._capture(params, fast, support, context)
        context.normalise = context.norm.query
        return self.outputs(params, fast, inputs, context)

    def remember(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the fast parameters, and the support set's statistics if queries need them."""
        fast = self.adapted(params, support, context)
        self._capture(params, fast, support, context)
        return named(FAST, fast) | named(STATISTICS, context.norm.captured())

    def recall(
        self,
        params: Params,
        memory: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the model with the remembered fast parameters to ``inputs``."""
        context.enter_step(self.n_steps(is_training=False) - 1)
        context.norm.recall(parted(memory, STATISTICS))
        context.normalise = context.norm.query
        return self.outputs(params, parted(memory, FAST), inputs, context)

    def _measured(
        self,
        params: Params,
        fast: Params,
        support: ExampleSet,
        query: ExampleSet,
        context: EpisodeContext,
    ) -> tuple[EpisodeMetrics, EpisodeMetrics]:
        """Return the metrics on support set and query set."""
        measured = []
        for examples in (support, query):
            outputs = self.adapted_outputs(params, fast, support, examples.inputs, context)
            loss = self.loss(outputs, examples.targets)
            measured.append(
                judge(outputs, examples.targets, loss, is_regression=self.is_regression)
            )
        return measured[0], measured[1]

    def _capture(
        self, params: Params, fast: Params, support: ExampleSet, context: EpisodeContext
    ) -> None:
        if context.norm.needs_support_pass:
            context.normalise = context.norm.capture
            self.outputs(params, fast, support.inputs, context)
