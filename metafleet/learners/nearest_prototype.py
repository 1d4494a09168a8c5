"""The baseline that every learner must beat: the nearest class mean of raw features."""

from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT
from metafleet.learners.context import EpisodeContext
from metafleet.learners.protonet import Protonet, ProtonetOptions
from metafleet.learners.prototypes import one_hot, require_classification, squared_distances
from metafleet.models.base import ModelFactory
from metafleet.models.marked_features import Marked, MarkedFeatures
from metafleet.options import name_of
from metafleet.params import Params
from metafleet.problem import Problem

_ROUNDING = 1e-10
"""Relative rounding noise of float32 squares, with a margin."""


class NearestPrototype(Protonet):
    """A prototypical network whose embedding is the identity. It has nothing to learn.

    Features are the flattened raw modalities. A text is represented by counts of its byte n-grams.
    For each modality, the prototype of a class is the mean of those examples of the class that have
    the modality. The distance of a query to a class is the mean of the distances in the modalities
    that both the query and the class have. If there are several modalities, each distance is
    divided by the spread of that modality's prototypes in the episode, because modalities have
    different units. Class names are ignored, because only support examples have them, and queries
    do not.

    Source: Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, eq. 1 and 2 (nearest class mean).
    """

    name: ClassVar[str] = "nearest_prototype"

    def __init__(
        self, options: ProtonetOptions, *, model: MarkedFeatures, problem: Problem
    ) -> None:
        super().__init__(options, model=model, problem=problem)
        self._features = model

    @classmethod
    def build(cls, options: ProtonetOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Build the learner on raw features; ``make_model`` is not used."""
        require_classification(problem, name_of(cls))
        seen = {name: s for name, s in problem.modalities.items() if name != CLASS_TEXT}
        return cls(options, model=MarkedFeatures(seen, problem.texts), problem=problem)

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the prototypes with their marks of presence, [n_way, d]."""
        membership = one_hot(targets, context.n_way, support)  # [m, n_way]
        columns = []
        for values, present in self._features.apart(support):
            counts = membership.T @ present
            means = (membership.T @ values) / counts.clamp(min=1.0)[:, None]
            columns += [means, (counts > 0).to(means.dtype)[:, None]]
        return {"prototypes": torch.cat(columns, dim=1)}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return minus the distances to the prototypes, averaged over the shared modalities.

        If query and prototype share no modality, the distance is the expected distance of two
        random prototypes.
        """
        prototypes = list(self._features.apart(fitted["prototypes"]))
        asked = self._features.apart(query)
        total = n_shared = query.new_zeros(len(query), context.n_way)
        for one, (values, present) in zip(prototypes, asked, strict=True):
            shared = present[:, None] * one.present  # [n, n_way]
            distances = squared_distances(values, one.values)
            spread = _spread(one)
            if len(prototypes) > 1:
                # distances carry no information if all prototypes are equal or there is only one
                shared = shared * (spread > _ROUNDING * one.values.square().sum(dim=1).mean())
                distances, spread = distances * _inverse(spread), torch.ones_like(spread)
            total, n_shared = total + shared * distances, n_shared + shared
        return -torch.where(n_shared > 0, total / n_shared.clamp(min=1.0), 2.0 * spread)


def _spread(prototypes: Marked) -> Tensor:
    """Return the mean squared distance of the present prototypes from their mean, a scalar."""
    weights = prototypes.present / prototypes.present.sum().clamp(min=1.0)
    centre = weights @ prototypes.values
    return weights @ (prototypes.values - centre).square().sum(dim=1)


def _inverse(value: Tensor) -> Tensor:
    """Return 1 / value, and 0 for 0."""
    return 1.0 / torch.where(value > 0, value, torch.inf)
