"""Prototypes compared by the cosine: the default head on features of a pretrained encoder."""

from typing import ClassVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.frozen_head import FrozenHead, HeadOptions
from metafleet.learners.prototypes import one_hot
from metafleet.params import Params


class CosinePrototypes(FrozenHead[HeadOptions]):
    """Classify by the cosine between the centred features of a query and each class's prototype.

    Let u(x) = (f(x) - centre) / |f(x) - centre|. The prototype of a class is the sum of u(x) over
    its support examples, scaled to length 1. The logits are cosines divided by the temperature.
    With several modalities, one cosine is computed for each modality that both the query and the
    class have, and the mean of these cosines is used. If they share no modality, the mean is 0.

    Source: Wang et al. 2019, arXiv:1911.04623, section 3 (CL2N); Gidaris and Komodakis 2018,
    arXiv:1804.09458, eq. 5 (cosine and temperature).
    """

    name: ClassVar[str] = "cosine_prototypes"
    Options: ClassVar[type] = HeadOptions

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the centre [d], the prototypes [n_way, d], and a mask of their modalities."""
        centre = self.centre_of(support, targets, context)
        known = self.directions(support, centre)
        membership = one_hot(targets, context.n_way, known.values)
        return {
            "centre": centre,
            "prototypes": self.scaled(membership.T @ known.values),
            "present": ((membership.T @ known.present) > 0).to(known.values.dtype),
        }

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the mean cosines, divided by the temperature."""
        asked = self.directions(query, fitted["centre"])
        n_shared = asked.present @ fitted["present"].T  # [n, n_way]
        cosines = (asked.values @ fitted["prototypes"].T) / n_shared.clamp(min=1.0)
        return cosines / self.options.temperature
