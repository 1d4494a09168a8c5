"""A bag of hashed byte n-grams: no tokenizer, no vocabulary, any language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.dense import init_dense
from metafleet.models.encoder import Encoder, require_counts
from metafleet.params import Params

_FACTOR, _MODULUS = 257, 1_000_003
"""Of the rolling hash. The modulus is prime, and products stay far below 2**63."""
_UPPER_A, _UPPER_Z, _TO_LOWER = 65, 90, 32


@dataclass(frozen=True, slots=True)
class NgramBagOptions:
    """Options of ``NgramBag``.

    Attributes:
        buckets: how many kinds of n-grams are told apart, >= 1; others share a bucket.
        max_n: n-grams of 1 to so many bytes are counted, >= 1.
        hidden: units of the hidden layer, >= 1.
        dim: length of the embedding, >= 1.
        modality: which modality to look at; its examples are [length] bytes.
    """

    buckets: int = 2048
    max_n: int = 4
    hidden: int = 128
    dim: int = 64
    modality: str = "text"

    def __post_init__(self) -> None:
        require_counts(self, "buckets", "max_n", "hidden", "dim")


class NgramBag(Encoder[NgramBagOptions]):
    """Count n-grams of bytes by their hash, and map the counts by two layers with a ReLU between.

    Counts are damped by a square root and scaled to length 1. ASCII capitals count as small ones.

    Source: Joulin et al. 2017, arXiv:1607.01759, section 2.1 and the hashing trick of Weinberger et
    al. 2009, arXiv:0902.2206; n-grams of characters as in Bojanowski et al. 2017, arXiv:1607.04606.
    """

    Options: ClassVar[type] = NgramBagOptions
    shapes: ClassVar[Mapping[int, str]] = {1: "(bytes of a text,)"}

    @property
    def layers(self) -> Mapping[str, int]:
        """The hidden layer, with its units."""
        return {"hidden": self.options.hidden}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Length of the embedding."""
        return (self.options.dim,)

    def init_body(self, seed: int) -> Params:
        """Draw both layers."""
        own = self.options
        hidden = init_dense(seed, 0, "hidden", (own.buckets, own.hidden))
        # rows of length 1 meet the first layer, so its weights are drawn as for one input
        hidden["hidden.0.weight"] = hidden["hidden.0.weight"] * (own.buckets / own.hidden) ** 0.5
        return hidden | init_dense(seed, 2, "out", (own.hidden, own.dim))

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map texts to embeddings."""
        counts = count_ngrams(x, buckets=self.options.buckets, max_n=self.options.max_n)
        hidden = F.linear(counts, params["hidden.0.weight"], params["hidden.0.bias"])
        hidden = hidden if modulate is None else modulate("hidden", hidden)
        return F.linear(F.relu(hidden), params["out.0.weight"], params["out.0.bias"])


def count_ngrams(texts: Tensor, *, buckets: int, max_n: int) -> Tensor:
    """Return square roots of counts by bucket, scaled to length 1: [n, buckets]; zeros if empty.

    Args:
        texts: [n, length], bytes as numbers, padded with zeros; nothing is differentiated here.
        buckets: how many.
        max_n: longest n-gram.
    """
    bytes_ = texts.detach().long()
    is_capital = (bytes_ >= _UPPER_A) & (bytes_ <= _UPPER_Z)
    bytes_ = torch.where(is_capital, bytes_ + _TO_LOWER, bytes_)
    counts = texts.new_zeros(len(texts), buckets)
    n_grams = torch.zeros_like(bytes_)
    for n in range(1, min(max_n, texts.shape[1]) + 1):
        last = bytes_[:, n - 1 :]
        n_grams = (n_grams[:, : last.shape[1]] * _FACTOR + last + n) % _MODULUS
        # texts have no zeros inside, so the last byte tells padding
        counts = counts.scatter_add(1, n_grams % buckets, (last != 0).to(texts.dtype))
    roots = counts.sqrt()
    return roots / roots.square().sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
