"""A small learned map on top of the features of a frozen network, such as a sentence encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.encoder import Encoder
from metafleet.options import require
from metafleet.params import Params

_TINY = 1e-12
"""Added to squared norms, so that zero vectors stay zero with finite first two derivatives."""


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """Options of ``Adapter``.

    Attributes:
        length: norm of every embedding, > 0. A larger norm makes a prototypical network's softmax
            sharper.
        modality: modality to read; its examples are [features].
    """

    length: float = 3.5
    modality: str = "text"

    def __post_init__(self) -> None:
        require(0.0 < self.length < float("inf"), "length", self.length, "a length above 0")


class Adapter(Encoder[AdapterOptions]):
    """Add a learned linear map of the features to the features; scale the sum to a fixed norm.

    The map starts at zero, so the initial embeddings are the scaled frozen features, and short
    training changes them little.

    Source: Gao et al. 2021, arXiv:2110.04544, equation 5, with one linear layer. All embeddings
    have the same norm as in the cosine classifiers of Gidaris and Komodakis 2018, arXiv:1804.09458,
    section 3.2.
    """

    name: ClassVar[str] = "adapter"
    Options: ClassVar[type] = AdapterOptions
    shapes: ClassVar[Mapping[int, str]] = {1: "(features,)"}
    reads_bytes = False

    @property
    def layers(self) -> Mapping[str, int]:
        """The embedding layer."""
        return {"embedding": self.shape[0]}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of an input: the number of features does not change."""
        return self.shape

    def init_body(self, seed: int) -> Params:
        """Return the zero map; the seed is not used."""
        return {"embedding.weight": torch.zeros(self.shape[0], self.shape[0])}

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map features [n, d] to embeddings [n, d] of norm ``length``."""
        moved = x + F.linear(x, params["embedding.weight"])
        length = (moved.square().sum(dim=1, keepdim=True) + _TINY).sqrt()
        scaled = self.options.length * moved / length
        return scaled if modulate is None else modulate("embedding", scaled)
