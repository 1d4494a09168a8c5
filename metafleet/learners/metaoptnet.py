"""Meta-learning with a support vector machine as the head."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import one_hot
from metafleet.learners.svm_dual import svm_dual
from metafleet.options import require
from metafleet.params import Params

_WEIGHTS = "weights"


@dataclass(frozen=True, slots=True)
class MetaOptNetOptions:
    """Options of ``MetaOptNet``.

    Attributes:
        bound: the constant C of the support vector machine, which bounds its dual variables, > 0.
        scale: initial value of the learned factor for the machine's scores, > 0.
    """

    bound: float = 0.1
    scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.bound > 0, "bound", self.bound, "more than 0")
        require(self.scale > 0, "scale", self.scale, "more than 0")


class MetaOptNet(MetricLearner[MetaOptNetOptions]):
    """Learn an embedding f on which a support vector machine is fitted to each support set.

    The logits of a query x are gamma sum_i a_i K(f(x_i), f(x)), where K is the linear kernel. The
    vectors a_i [n_way] hold the dual variables of Crammer and Singer's multi-class machine. The
    scale gamma is learned.

    Source: Lee et al. 2019, arXiv:1904.03758, eq. 6 to 10; C = 0.1 in section 4.1.
    """

    name: ClassVar[str] = "metaoptnet"
    Options: ClassVar[type] = MetaOptNetOptions

    def init_comparison(self, seed: int) -> Params:
        """Return the initial gamma."""
        return {"svm.scale": torch.tensor([self.options.scale])}

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the machine's weights, [d, n_way]."""
        classes = one_hot(targets, context.n_way, support)
        dual = svm_dual(support @ support.T, classes, self.options.bound).to(support.dtype)
        return {_WEIGHTS: support.T @ dual}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the machine's scaled scores."""
        return params["svm.scale"] * (query @ fitted[_WEIGHTS])
