"""The base of learners that classify by comparing query embeddings with support embeddings."""

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
    """A learner that compares query embeddings with support embeddings. Its model has no head.

    No learned parameter depends on n_way, so splits may differ in n_way. A subclass implements
    ``fit`` and ``compare``, and ``init_comparison`` if the comparison has parameters.
    """

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the model without a head, as an embedding.

        Raises:
            ConfigError: the data set is for regression.
        """
        require_classification(problem, name_of(cls))
        return cls(options, model=make_model(None), problem=problem)

    @property
    def n_classes(self) -> int | None:
        """Return None, because an episode may have any number of classes."""
        return None

    @abstractmethod
    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the tensors to which ``compare`` compares queries, for example prototypes.

        Args:
            params: parameters of the state, including those from ``init_comparison``.
            support: embeddings [m, d] of the support set.
            targets: classes of the support set, [m] int64 in [0, n_way), each at least once.
            context: the episode's context.
        """

    @abstractmethod
    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the logits [n, n_way] of embeddings ``query`` [n, d]; ``fit`` made ``fitted``."""

    def fit_support(
        self, params: Params, known: Tensor, support: ExampleSet, context: EpisodeContext
    ) -> Params:
        """Fit a support set with embeddings ``known`` [m, d]. Subclasses may read its inputs."""
        return self.fit(params, known, support.targets, context)

    def init_comparison(self, seed: int) -> Params:
        """Draw the parameters of the comparison; there are none by default."""
        return {}

    def init_state(self, seed: int) -> MetaState:
        """Draw the parameters of the model and of the comparison."""
        params = self.model.init_params(seed) | self.init_comparison(seed)
        return MetaState(params, self.model.init_buffers())

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Check that the support set has every class."""
        require_each_class(support.targets, n_way)

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Embed support set and queries, fit the support set, and compare the queries with it."""
        known, asked = embed_episode(self.model, params, support, inputs, context)
        fitted = self.fit_support(params, known, support, context)
        return self.compare(params, fitted, asked, context)

    def remember(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the fit; with transductive batch norm, return the support set itself."""
        if self.batch_norm == "transductive":
            return super().remember(params, support, context)
        norm = context.norm
        normalise = norm.capture if norm.needs_support_pass else norm.query
        known = self.model.forward(params, support.inputs, normalise)
        fitted = self.fit_support(params, known, support, context)
        return named(_FITTED, fitted) | named(STATISTICS, norm.captured())

    def recall(
        self,
        params: Params,
        memory: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Compare the queries with the remembered fit."""
        if self.batch_norm == "transductive":
            return super().recall(params, memory, inputs, context)
        context.norm.recall(parted(memory, STATISTICS))
        asked = self.model.forward(params, inputs, context.norm.query)
        return self.compare(params, parted(memory, _FITTED), asked, context)
