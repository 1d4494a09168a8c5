"""The bases of learners whose networks read examples together with their targets."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.embedding import embed_episode
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.prototypes import one_hot
from metafleet.models.base import ModelFactory
from metafleet.options import name_of
from metafleet.params import MetaState, Params
from metafleet.problem import Problem
from metafleet.seeds import CounterRng

OptionsT = TypeVar("OptionsT")


class PairLearner(EpisodicLearner[OptionsT], Generic[OptionsT]):
    """A learner that sees the support set as pairs (x, y), where y is a value or a one-hot class.

    The model has no head and embeds x. The model ``raw`` leaves x unchanged.
    """

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the model without a head. Every split must have the same number of classes.

        Raises:
            ConfigError: splits differ in n_way.
        """
        problem.fixed_outputs(name_of(cls))
        return cls(options, model=make_model(None), problem=problem)

    @property
    def n_inputs(self) -> int:
        """The number of features of an embedded x."""
        return math.prod(self.model.feature_shape)

    @property
    def n_targets(self) -> int:
        """The length of one y."""
        return self.problem.fixed_outputs(name_of(type(self)))

    def targets_of(self, examples: ExampleSet, like: Tensor) -> Tensor:
        """Return y, [n, n_targets]; one-hot classes have the dtype of ``like``."""
        if self.is_regression:
            return examples.targets
        return one_hot(examples.targets, self.n_targets, like)

    def embed(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return x and y of the support set, [m, ...] each, and x of ``inputs``, [n, n_inputs]."""
        known, asked = embed_episode(self.model, params, support, inputs, context)
        return known, self.targets_of(support, known), asked


class SequenceLearner(PairLearner[OptionsT], Generic[OptionsT]):
    """A learner that reads the support set as a sequence in random order, and then a query.

    The order of the support set is drawn for each episode. Each query is read separately, so
    queries affect each other only through batch norm. A subclass implements ``init_reader`` and
    ``read``.
    """

    @abstractmethod
    def init_reader(self, seed: int) -> Params:
        """Draw the parameters of the reader network."""

    @abstractmethod
    def read(self, params: Params, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """Read the support set, then each query; return outputs [n, n_targets].

        Args:
            params: parameters of the state.
            support: [m, n_inputs], in reading order.
            targets: [m, n_targets], values or one-hot classes.
            query: [n, n_inputs].
        """

    def init_state(self, seed: int) -> MetaState:
        """Draw the parameters of the model and of the reader."""
        params = self.model.init_params(seed) | self.init_reader(seed)
        return MetaState(params, self.model.init_buffers())

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw the order in which the support set is read."""
        return {"order": torch.tensor(rng.sample(n_support, n_support))}

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Embed support set and queries, read the support set in its order, and predict queries."""
        known, targets, asked = self.embed(params, support, inputs, context)
        order = context.drawn["order"]
        return self.read(params, known[order], targets[order], asked)
