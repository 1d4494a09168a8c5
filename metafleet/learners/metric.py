"""The base of learners that embed, and classify by comparing embeddings with the support set's."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Generic, Self, TypeVar

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.embedding import embed_episode
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.prototypes import require_classification, require_each_class
from metafleet.models.base import ModelFactory
from metafleet.models.episode_norm import STATISTICS
from metafleet.options import name_of
from metafleet.params import MetaState, Params, named, parted
from metafleet.problem import Problem

OptionsT = TypeVar("OptionsT")
_FITTED = "fitted"


class MetricLearner(EpisodicLearner[OptionsT], Generic[OptionsT]):
    """A learner whose model has no head: it fits to embeddings, and compares others with that.

    Nothing learned depends on n_way, so splits may differ in it. A subclass writes ``fit`` and
    ``compare``, and ``init_comparison`` where they have parameters of their own.
    """

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Take the model without a head, as an embedding.

        Raises:
            ConfigError: the data are regression.
        """
        require_classification(problem, name_of(cls))
        return cls(options, model=make_model(None), problem=problem)

    @property
    def n_classes(self) -> int | None:
        """Return None: any number of classes."""
        return None

    @abstractmethod
    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return what embeddings are compared with, such as prototypes.

        Args:
            params: the state's, ``init_comparison``'s among them.
            support: embeddings [m, d] of the support set.
            targets: its classes, [m] int64 in [0, n_way), each at least once.
            context: of the episode.
        """

    @abstractmethod
    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the logits [n, n_way] of embeddings ``query`` [n, d], given what ``fit`` made."""

    def init_comparison(self, seed: int) -> Params:
        """Draw the parameters of the comparison; none by default."""
        return {}

    def init_state(self, seed: int) -> MetaState:
        """Draw the model's and the comparison's parameters."""
        params = self.model.init_params(seed) | self.init_comparison(seed)
        return MetaState(params, self.model.init_buffers())

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Refuse a support set that lacks a class."""
        require_each_class(support.targets, n_way)

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Embed both, fit to the support set, and compare."""
        known, asked = embed_episode(self.model, params, support, inputs, context)
        fitted = self.fit(params, known, support.targets, context)
        return self.compare(params, fitted, asked, context)

    def remember(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return what was fitted; the support set itself where it shares a batch with queries."""
        if self.batch_norm == "transductive":
            return super().remember(params, support, context)
        norm = context.norm
        normalise = norm.capture if norm.needs_support_pass else norm.query
        known = self.model.forward(params, support.inputs, normalise)
        fitted = self.fit(params, known, support.targets, context)
        return named(_FITTED, fitted) | named(STATISTICS, norm.captured())

    def recall(
        self,
        params: Params,
        memory: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Compare with what was fitted."""
        if self.batch_norm == "transductive":
            return super().recall(params, memory, inputs, context)
        context.norm.recall(parted(memory, STATISTICS))
        asked = self.model.forward(params, inputs, context.norm.query)
        return self.compare(params, parted(memory, _FITTED), asked, context)
