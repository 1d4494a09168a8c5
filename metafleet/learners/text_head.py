"""The base of heads that compare items with the names of classes, as a text tower encodes them."""

from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Self, TypeVar

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, ExampleSet
from metafleet.errors import ConfigError, DataError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import class_means, require_classification
from metafleet.models.base import ModelFactory
from metafleet.models.raw_features import RawFeatures
from metafleet.options import name_of, require
from metafleet.params import Params
from metafleet.problem import Problem

TEXTS: Final = "texts"
"""Name under which ``fit`` gets the features of the classes' names, [n_way, d] of length 1."""
_TINY: Final = 1e-12
"""Added to squared lengths, so that zeros stay zeros with finite first two derivatives."""


@dataclass(frozen=True, slots=True)
class TextHeadOptions:
    """Options of heads with texts.

    Attributes:
        scale: the factor that turns cosines into logits, > 0. CLIP's factor is 100. Without a run,
            the default is the factor that the encoder learned.
    """

    scale: float = 100.0

    def __post_init__(self) -> None:
        is_finite = 0.0 < self.scale < float("inf")
        require(is_finite, "scale", self.scale, "a finite number above 0")


TextHeadT = TypeVar("TextHeadT")


class TextHead(MetricLearner[TextHeadT], Generic[TextHeadT]):
    """A head for an encoder with a text tower: items and names of classes are in the same space.

    The names come with the support examples, as the modality ``CLASS_TEXT``. A subclass implements
    ``fit`` and ``compare``. ``fit`` gets embeddings of length 1 of the support examples. It gets
    the features of the names as ``params[TEXTS]``. ``compare`` must scale the embeddings of the
    queries to length 1 with ``unit``. Features are not centred, because items and texts have
    different means.

    Attributes:
        reads_class_text: True, because the learner itself reads the names, whatever its model.

    Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.2.
    """

    reads_class_text: ClassVar[bool] = True

    @classmethod
    def build(cls, options: TextHeadT, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the head. It classifies the features that a model computes from items.

        Raises:
            ConfigError: the data are for regression, the episodes have no features of names, or
                these features are not in the space of the items' embeddings.
        """
        name = name_of(cls)
        require_classification(problem, name)
        if CLASS_TEXT not in problem.modalities or CLASS_TEXT in problem.texts:
            raise ConfigError(
                f"learner {name!r} compares items with features of the names of classes, which "
                "the episodes do not have; set episodes.class_text=true and "
                "data.class_text.encoder to an encoder with a text tower"
            )
        model = make_model(None)
        if isinstance(model, RawFeatures):
            items = {n: shape for n, shape in problem.modalities.items() if n != CLASS_TEXT}
            model = RawFeatures(items)
        n_items = int(torch.Size(model.feature_shape).numel())
        (n_texts,) = problem.modalities[CLASS_TEXT]
        if n_items != n_texts:
            raise ConfigError(
                f"learner {name!r} compares items with names of classes, but items have {n_items} "
                f"features and names have {n_texts}; give one kind of data, encoded by the encoder "
                "of the names"
            )
        return cls(options, model=model, problem=problem)

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Check that the support set has every class, and features of the classes' names."""
        super().check_support(support, n_way)
        if CLASS_TEXT not in support.inputs:
            raise DataError(
                f"the support set has no {CLASS_TEXT!r}, the features of the names of classes; "
                "give one row for each example"
            )

    def fit_support(
        self, params: Params, known: Tensor, support: ExampleSet, context: EpisodeContext
    ) -> Params:
        """Fit the embeddings and the features of the classes' names, all of length 1."""
        texts = class_means(support.inputs[CLASS_TEXT], support.targets, context.n_way)
        given = {**params, TEXTS: unit(texts)}
        return self.fit(given, unit(known), support.targets, context)


def unit(rows: Tensor) -> Tensor:
    """Flatten examples [n, ...] to rows, and scale these to length 1. Zeros stay zeros."""
    rows = rows.flatten(1)
    return rows * (rows.square().sum(dim=1, keepdim=True) + _TINY).rsqrt()
