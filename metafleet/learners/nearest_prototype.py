"""The baseline every learner must beat: the nearest class mean of raw features."""

from typing import ClassVar, Self

from metafleet.episode import CLASS_TEXT
from metafleet.learners.protonet import Protonet, ProtonetOptions
from metafleet.learners.prototypes import require_classification
from metafleet.models.base import ModelFactory
from metafleet.models.raw_features import RawFeatures
from metafleet.problem import Problem
from metafleet.registry import name_of


class NearestPrototype(Protonet):
    """Prototypical networks with the identity as embedding; there is nothing to learn.

    Features are the modalities as they come, flattened and joined in order of name; names of
    classes, which only the support set has, are left out.

    Source: Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, eq. 1 and 2 (nearest class mean).
    """

    name: ClassVar[str] = "nearest_prototype"

    @classmethod
    def build(cls, options: ProtonetOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Take no model."""
        require_classification(problem, name_of(cls))
        seen = {name: s for name, s in problem.modalities.items() if name != CLASS_TEXT}
        return cls(options, model=RawFeatures(seen), problem=problem)
