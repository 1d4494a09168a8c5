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
from metafleet.params import MetaState, Params
from metafleet.problem import Problem

OptionsT = TypeVar("OptionsT")


class MetricLearner(EpisodicLearner[OptionsT], Generic[OptionsT]):
    """A learner whose model has no head: ``logits`` compares embeddings.

    Nothing learned depends on n_way, so splits may differ in it. A subclass writes ``logits``, and
    ``init_comparison`` where comparing has parameters of its own.
    """

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Take the model without a head, as an embedding.

        Raises:
            ConfigError: the data are regression.
        """
        require_classification(problem, cls.__name__.lower())
        return cls(options, model=make_model(None), problem=problem)

    @abstractmethod
    def logits(
        self,
        params: Params,
        support: Tensor,
        targets: Tensor,
        query: Tensor,
        context: EpisodeContext,
    ) -> Tensor:
        """Return the logits [n, n_way] of embeddings ``query`` [n, d].

        Args:
            params: the state's, ``init_comparison``'s among them.
            support: embeddings [m, d] of the support set.
            targets: its classes, [m] int64 in [0, n_way), each at least once.
            query: embeddings [n, d].
            context: of the episode.
        """

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
        """Embed both and return the logits."""
        embedded_support, embedded = embed_episode(self.model, params, support, inputs, context)
        return self.logits(params, embedded_support, support.targets, embedded, context)
