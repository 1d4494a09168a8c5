"""Prototypical networks."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import class_means, squared_distances
from metafleet.params import Params

_PROTOTYPES = "prototypes"


@dataclass(frozen=True, slots=True)
class ProtonetOptions:
    """Options of ``Protonet``: none."""


class Protonet(MetricLearner[ProtonetOptions]):
    """Learn an embedding f that represents a class by the mean embedding of its support examples.

    The prototype c_k is the mean of f over the support examples of class k. The logit of a query x
    for class k is -|f(x) - c_k|^2.

    Source: Snell et al. 2017, arXiv:1703.05175, eq. 1, eq. 2 and algorithm 1.
    """

    name: ClassVar[str] = "protonet"
    Options: ClassVar[type] = ProtonetOptions

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the prototypes, [n_way, d]."""
        return {_PROTOTYPES: class_means(support, targets, context.n_way)}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return minus the squared distances to the prototypes."""
        return -squared_distances(query, fitted[_PROTOTYPES])
