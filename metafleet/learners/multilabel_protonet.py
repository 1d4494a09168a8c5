"""Prototypical networks for items with several labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import DataError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import one_hot, squared_distances
from metafleet.params import Params

_LOG_SCALE, _BIAS = "comparison.log_scale", "comparison.bias"


@dataclass(frozen=True, slots=True)
class MultilabelProtonetOptions:
    """The options of ``MultilabelProtonet``, which has none."""


class MultilabelProtonet(MetricLearner[MultilabelProtonetOptions]):
    """Learn an embedding f. Each label has a prototype of items with, and one of items without it.

    For label l, p_l is the mean of f over the support items with the label, and q_l is the mean of
    f over the support items without the label. With a learned scale s > 0 and bias b, the logit of
    a query x is s (|f(x) - q_l|^2 - |f(x) - p_l|^2) + b, and the sigmoid of the logit is the
    probability of the label. If every support item has the label, q_l is set to p_l, so that the
    logit is b. If every item has exactly one class, the probabilities are a softmax of the logits
    instead.

    Source: Snell et al. 2017, arXiv:1703.05175, eq. 1 and 2. Each label has a prototypical network
    with two classes. The logit of the label is the difference of the two distances.
    """

    name: ClassVar[str] = "multilabel_protonet"
    Options: ClassVar[type] = MultilabelProtonetOptions
    takes_several_labels: ClassVar[bool] = True

    def init_comparison(self, seed: int) -> Params:
        """Start with scale 1 and bias 0."""
        return {_LOG_SCALE: torch.zeros(()), _BIAS: torch.zeros(())}

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Check that every label has an item."""
        if support.targets.dim() == 1:
            super().check_support(support, n_way)
            return
        absent = (support.targets.sum(dim=0) == 0).nonzero()
        if len(absent):
            raise DataError(
                f"the support set has no item with label {absent[0].item()} of {n_way}; give at "
                "least one for each label"
            )

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return both prototypes of each label, [n_way, d]."""
        is_single = targets.dim() == 1
        having = one_hot(targets, context.n_way, support) if is_single else targets.to(support)
        lacking = 1.0 - having
        positive = _means(support, having)
        n_lacking = lacking.sum(dim=0)[:, None]
        negative = torch.where(n_lacking > 0, _means(support, lacking), positive)
        return {"positive": positive, "negative": negative}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the logits of the labels."""
        further = squared_distances(query, fitted["negative"])
        nearer = squared_distances(query, fitted["positive"])
        return params[_LOG_SCALE].exp() * (further - nearer) + params[_BIAS]


def _means(features: Tensor, weights: Tensor) -> Tensor:
    """Return the mean feature of the items with weight 1, [n_way, d]; zeros if there are none.

    Args:
        features: [n, d].
        weights: [n, n_way], 0 or 1.
    """
    return (weights.T @ features) / weights.sum(dim=0).clamp(min=1.0)[:, None]
