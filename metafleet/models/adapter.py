"""A small learned map on top of the features of a frozen network, such as a sentence encoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.encoder import Encoder
from metafleet.models.init import fan_in_uniform
from metafleet.options import require
from metafleet.params import Params
from metafleet.problem import Problem

_TINY = 1e-12
"""Added to squared norms, so that zero vectors stay zero with finite first two derivatives."""


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """Options of ``Adapter``.

    Attributes:
        length: norm of every embedding, > 0. A larger norm makes a prototypical network's softmax
            sharper.
        modality: modality to read; its examples are [features]. "" selects the only modality of the
            data. If the data have several modalities, it selects "text".
        centre: whether to subtract a learned centre from the features first. The centre starts at
            the mean of the features of meta-training. A centre helps most if training is short.
        rank: rank of the learned map, at most the number of features; 0 for a full matrix.
    """

    length: float = 3.5
    modality: str = ""
    centre: bool = False
    rank: int = 0

    def __post_init__(self) -> None:
        require(0.0 < self.length < float("inf"), "length", self.length, "a length above 0")
        require(self.rank >= 0, "rank", self.rank, "0 for a full matrix, or more")


class Adapter(Encoder[AdapterOptions]):
    """Add W x to the features x, where W is a learned matrix, and scale the sum to a fixed norm.

    The embedding of features x is ``length * u / |u|`` with u = (x - c) + W (x - c). Here c is the
    centre. Without ``centre``, c = 0. With ``rank`` r > 0, W = U V is the product of U [d, r] and V
    [r, d]. W starts at zero. The initial embeddings are therefore the centred features, scaled to
    the norm ``length``. Short training changes them little.

    Source: Gao et al. 2021, arXiv:2110.04544, equation 5, with one linear layer. All embeddings
    have the same norm as in the cosine classifiers of Gidaris and Komodakis 2018, arXiv:1804.09458,
    section 3.2. The centre is that of Wang et al. 2019, arXiv:1911.04623, section 3.2. The product
    U V of low rank is that of Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    name: ClassVar[str] = "adapter"
    Options: ClassVar[type] = AdapterOptions
    shapes: ClassVar[Mapping[int, str]] = {1: "(features,)"}
    reads_bytes = False
    _training_mean: Callable[[str], Tensor] | None = None

    @classmethod
    def build(cls, options: AdapterOptions, problem: Problem, n_outputs: int | None) -> Self:
        """Make an adapter of the features of its modality.

        Raises:
            ConfigError: the data lack the modality, its examples are not features, or the rank
                exceeds the number of features.
        """
        made = super().build(options, problem, n_outputs)
        if options.rank > made.shape[0]:
            raise ConfigError(
                f"rank={options.rank} but modality {made.modality!r} has {made.shape[0]} "
                "features; expected at most as many, or 0 for a full matrix"
            )
        made._training_mean = problem.training_mean
        return made

    @property
    def layers(self) -> Mapping[str, int]:
        """The embedding layer."""
        return {"embedding": self.shape[0]}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of an input: the number of features does not change."""
        return self.shape

    def init_body(self, seed: int) -> Params:
        """Return the zero map, and the centre. The seed is used only with a ``rank``."""
        n, rank = self.shape[0], self.options.rank
        params: Params = {}
        if self.options.centre:
            mean = self._training_mean
            params["embedding.centre"] = torch.zeros(n) if mean is None else mean(self.modality)
        if rank == 0:
            return params | {"embedding.weight": torch.zeros(n, n)}
        down = fan_in_uniform(seed, 0, (rank, n), fan_in=n)
        return params | {"embedding.down": down, "embedding.up": torch.zeros(n, rank)}

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map features [n, d] to embeddings [n, d] of norm ``length``."""
        if self.options.centre:
            x = x - params["embedding.centre"]
        if self.options.rank:
            moved = x + F.linear(F.linear(x, params["embedding.down"]), params["embedding.up"])
        else:
            moved = x + F.linear(x, params["embedding.weight"])
        length = (moved.square().sum(dim=1, keepdim=True) + _TINY).sqrt()
        scaled = self.options.length * moved / length
        return scaled if modulate is None else modulate("embedding", scaled)
