"""The baseline every learner must beat: the nearest class mean of features that nobody learned."""

from typing import ClassVar, Self

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT
from metafleet.learners.context import EpisodeContext
from metafleet.learners.protonet import Protonet, ProtonetOptions
from metafleet.learners.prototypes import class_means, require_classification, squared_distances
from metafleet.models.base import ModelFactory
from metafleet.models.raw_features import RawFeatures
from metafleet.params import Params
from metafleet.problem import Problem
from metafleet.registry import name_of


class NearestPrototype(Protonet):
    """Prototypical networks with the identity as embedding; there is nothing to learn.

    Features are the modalities as they come, flattened and joined in order of name; of a text,
    counts of its bytes' n-grams. Where there are several modalities, each is divided by the spread
    of its prototypes in the episode, since the units of one say nothing of another's. Names of
    classes, which only the support set has, are left out.

    Source: Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, eq. 1 and 2 (nearest class mean).
    """

    name: ClassVar[str] = "nearest_prototype"

    def __init__(self, options: ProtonetOptions, *, model: RawFeatures, problem: Problem) -> None:
        super().__init__(options, model=model, problem=problem)
        self._sizes = list(model.sizes.values())

    @classmethod
    def build(cls, options: ProtonetOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Take no model."""
        require_classification(problem, name_of(cls))
        seen = {name: s for name, s in problem.modalities.items() if name != CLASS_TEXT}
        return cls(options, model=RawFeatures(seen, counted=problem.texts), problem=problem)

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the prototypes, [n_way, d], and what features are multiplied by, [d]."""
        prototypes = class_means(support, targets, context.n_way)
        scales = _scales(prototypes, self._sizes)
        return {"prototypes": prototypes * scales, "scales": scales}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return minus the squared distances to the prototypes."""
        return -squared_distances(query * fitted["scales"], fitted["prototypes"])


def _scales(prototypes: Tensor, sizes: list[int]) -> Tensor:
    """Return [d]: one over the root mean squared distance of prototypes to their mean.

    Each modality has its own; ones if there is but one, zeros where prototypes are all the same.

    Args:
        prototypes: [n_way, d].
        sizes: how many of the d are of each modality.
    """
    if len(sizes) == 1:
        return torch.ones_like(prototypes[0])
    spread = (prototypes - prototypes.mean(dim=0)).square().mean(dim=0)  # [d]
    return torch.cat(
        [_inverse_root(own.sum()).expand(own.shape) for own in torch.split(spread, sizes)]
    )


def _inverse_root(value: Tensor) -> Tensor:
    """Return 1 / sqrt(value), and 0 for 0."""
    return torch.where(value > 0, value, torch.inf).rsqrt()
