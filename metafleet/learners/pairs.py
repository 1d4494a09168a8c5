"""The base of learners without inner steps: networks that read examples with their targets."""

import math
from collections.abc import Mapping
from typing import Generic, Self, TypeVar

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.embedding import embed_episode
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.prototypes import one_hot
from metafleet.models.base import ModelFactory
from metafleet.params import Params
from metafleet.problem import Problem
from metafleet.registry import name_of

OptionsT = TypeVar("OptionsT")
FIRST_INDEX = 1_000
"""Where the tensors of a learner begin in the stream of initial values, after any model's."""


class PairLearner(EpisodicLearner[OptionsT], Generic[OptionsT]):
    """A learner that sees the support set as pairs (x, y), y a value or a one-hot class.

    The model, without a head, embeds x; model ``raw`` takes it as it is.
    """

    @classmethod
    def build(cls, options: OptionsT, problem: Problem, make_model: ModelFactory) -> Self:
        """Take the model without a head; the number of classes must be the same in every split.

        Raises:
            ConfigError: splits differ in n_way.
        """
        problem.fixed_outputs(name_of(cls))
        return cls(options, model=make_model(None), problem=problem)

    @property
    def n_inputs(self) -> int:
        """Features of an embedded x."""
        return math.prod(self.model.feature_shape)

    @property
    def n_targets(self) -> int:
        """Numbers in one y."""
        return self.problem.fixed_outputs(name_of(type(self)))

    def targets_of(self, examples: ExampleSet, like: Tensor) -> Tensor:
        """Return y, [n, n_targets], in the precision of ``like``."""
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
