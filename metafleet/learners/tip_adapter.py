"""Tip-Adapter: zero-shot logits, corrected by a cache of the examples. Nothing is trained."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.prototypes import one_hot
from metafleet.learners.text_head import TEXTS, TextHead, TextHeadOptions, unit
from metafleet.options import require
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class TipAdapterOptions(TextHeadOptions):
    """Options of ``TipAdapter``.

    Attributes:
        alpha: the weight of the examples' votes (the cache of the paper), >= 0. Larger values give
            the examples more weight compared with the names.
        beta: the sharpness of the votes, > 0. With larger values, only the nearest examples count.
    """

    alpha: float = 1.0
    beta: float = 5.5

    def __post_init__(self) -> None:
        TextHeadOptions.__post_init__(self)
        most = float("inf")
        require(0.0 <= self.alpha < most, "alpha", self.alpha, "a finite number from 0")
        require(0.0 < self.beta < most, "beta", self.beta, "a finite number above 0")


class TipAdapter(TextHead[TipAdapterOptions]):
    """Add the votes of similar examples to the zero-shot logits.

    The logits are alpha * exp(-beta (1 - q K^T)) L + scale * q W^T. The rows of q are the features
    of queries. The rows of K are the features of support examples, and the rows of W are the
    features of the names of classes. All these rows have length 1. The rows of L are the one-hot
    classes of the support examples.

    Source: Zhang et al. 2022, arXiv:2207.09519, section 3.1 (training-free Tip-Adapter), with its
    default alpha and beta. In the paper, the scale is 100, the factor of CLIP.
    """

    name: ClassVar[str] = "tip_adapter"
    Options: ClassVar[type] = TipAdapterOptions

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the keys K [m, d], the values L [m, n_way] and the names W [n_way, d]."""
        classes = one_hot(targets, context.n_way, support)
        return {"keys": support, "values": classes, TEXTS: params[TEXTS]}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the sum of both logits."""
        options, rows = self.options, unit(query)
        similar = (options.beta * (rows @ fitted["keys"].T - 1.0)).exp()
        cached = similar @ fitted["values"]
        return options.alpha * cached + options.scale * (rows @ fitted[TEXTS].T)
