"""Zero-shot classification: the nearest name of a class, without any examples."""

from typing import ClassVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.text_head import TEXTS, TextHead, TextHeadOptions, unit
from metafleet.params import Params


class ZeroShot(TextHead[TextHeadOptions]):
    """Classify by the cosine between an item and the name of each class.

    The logit for class k is scale * cos(f(x), t_k), where t_k are the features of the name of class
    k. The learner reads only the names of the support set, and ignores its items.

    Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.2.
    """

    name: ClassVar[str] = "zero_shot"
    Options: ClassVar[type] = TextHeadOptions

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the features of the names, [n_way, d]."""
        return {TEXTS: params[TEXTS]}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the scaled cosines."""
        return self.options.scale * (unit(query) @ fitted[TEXTS].T)
