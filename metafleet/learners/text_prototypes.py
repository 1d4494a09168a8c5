"""Prototypes that mix the examples of a class with its name: the name is one more shot."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.prototypes import class_means
from metafleet.learners.text_head import TEXTS, TextHead, TextHeadOptions, unit
from metafleet.options import require
from metafleet.params import Params

_MIX = "text.mix"
"""The parameter whose sigmoid is the weight of the names."""


@dataclass(frozen=True, slots=True)
class TextPrototypesOptions(TextHeadOptions):
    """Options of ``TextPrototypes``.

    Attributes:
        weight: the weight w of the names, in (0, 1). A run starts with this value and learns w.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        TextHeadOptions.__post_init__(self)
        require(0.0 < self.weight < 1.0, "weight", self.weight, "a number between 0 and 1")


class TextPrototypes(TextHead[TextPrototypesOptions]):
    """Classify by the cosine to prototypes made of examples and names of classes.

    The prototype of class k is p_k = (1 - w) m_k + w t_k. Here m_k is the mean of u(x) = f(x) /
    |f(x)| over the support examples of the class, and t_k are the features of the class's name. The
    logits are scale * cos(f(x), p_k). If each class has one example and w = 0.5, the name has the
    same weight as the example. Meta-training learns w = sigmoid(a), one number for all classes.

    Source: Lin et al. 2023, arXiv:2301.06267, section 3 (names of classes as training examples);
    Xing et al. 2019, arXiv:1902.07104, eq. 4 (the mixture), with the same w for all classes.
    """

    name: ClassVar[str] = "text_prototypes"
    Options: ClassVar[type] = TextPrototypesOptions

    def init_comparison(self, seed: int) -> Params:
        """Return the parameter a with sigmoid(a) = ``weight``."""
        weight = self.options.weight
        return {_MIX: torch.tensor([math.log(weight / (1.0 - weight))])}

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the prototypes, scaled to length 1, [n_way, d]."""
        weight = torch.sigmoid(params[_MIX])
        means = class_means(support, targets, context.n_way)
        return {"prototypes": unit((1.0 - weight) * means + weight * params[TEXTS])}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the scaled cosines."""
        return self.options.scale * (unit(query) @ fitted["prototypes"].T)
