"""Prototypical networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.embedding import embed_episode
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.prototypes import (
    class_means,
    require_classification,
    require_each_class,
    squared_distances,
)
from metafleet.models.base import ModelFactory
from metafleet.params import Params
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class ProtonetOptions:
    """Options of ``Protonet``: none."""


class Protonet(EpisodicLearner[ProtonetOptions]):
    """Learn an embedding in which a class is its mean, c_k = mean of f(x) over its support.

    The logits of a query x are -|f(x) - c_k|^2. Nothing learned depends on n_way, so splits may
    differ in it.

    Source: Snell et al. 2017, arXiv:1703.05175, eq. 1, eq. 2 and algorithm 1.
    """

    Options: ClassVar[type] = ProtonetOptions

    @classmethod
    def build(cls, options: ProtonetOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Take the model without a head, as an embedding."""
        require_classification(problem, "protonet")
        return cls(options, model=make_model(None), problem=problem)

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Refuse a class without a mean."""
        require_each_class(support.targets, n_way)

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Return minus the squared distances to the prototypes, [n, n_way]."""
        embedded_support, embedded = embed_episode(self.model, params, support, inputs, context)
        prototypes = class_means(embedded_support, support.targets, context.n_way)
        return -squared_distances(embedded, prototypes)
