"""The baseline every learner must beat: the nearest class mean of raw features."""

from typing import Self

from metafleet.learners.protonet import Protonet, ProtonetOptions
from metafleet.learners.prototypes import require_classification
from metafleet.models.base import ModelFactory
from metafleet.models.raw_features import RawFeatures
from metafleet.problem import Problem


class NearestPrototype(Protonet):
    """Prototypical networks with the identity as embedding; there is nothing to learn.

    Features are the modalities as they come, flattened and joined in order of name.

    Source: Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, eq. 1 and 2 (nearest class mean).
    """

    @classmethod
    def build(cls, options: ProtonetOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Take no model."""
        require_classification(problem, "nearest_prototype")
        return cls(options, model=RawFeatures(problem.modalities), problem=problem)
