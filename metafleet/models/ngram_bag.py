"""A bag of hashed byte n-grams: no tokenizer, no vocabulary, any language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.encoder import Encoder, require_counts
from metafleet.models.init import fan_in_uniform
from metafleet.params import Params

_FACTOR, _MODULUS = 257, 1_000_003
"""Constants of the rolling hash. The modulus is prime, and products stay far below 2**63."""
_UPPER_A, _UPPER_Z, _TO_LOWER = 65, 90, 32


_LENGTH = 3.0
"""Initial norm of an embedding, large enough for a softmax of squared distances to be sharp."""


@dataclass(frozen=True, slots=True)
class NgramBagOptions:
    """Options of ``NgramBag``.

    Attributes:
        buckets: number of hash buckets, >= 1. n-grams with the same hash share a bucket.
        max_n: length of the longest n-gram, in bytes, >= 1. All n-grams of 1 to ``max_n`` bytes are
            counted.
        dim: length of the embedding, >= 1.
        modality: modality to read; its examples are [length] bytes.
    """

    buckets: int = 4096
    max_n: int = 4
    dim: int = 128
    modality: str = "text"

    def __post_init__(self) -> None:
        require_counts(self, "buckets", "max_n", "dim")


class NgramBag(Encoder[NgramBagOptions]):
    """Return the weighted mean of the embeddings of a text's byte n-grams, looked up by hash.

    The weights are the square roots of the counts of hash buckets, and the vector of a text's
    weights is scaled to length 1. ASCII capitals count as lower case. Before training, the
    embedding is a random projection of the weights, which approximately preserves distances between
    texts.

    Source: Joulin et al. 2017, arXiv:1607.01759, section 2.1; the hashing trick of Weinberger et
    al. 2009, arXiv:0902.2206; n-grams of characters as in Bojanowski et al. 2017, arXiv:1607.04606.
    """

    name: ClassVar[str] = "ngram_bag"
    Options: ClassVar[type] = NgramBagOptions
    shapes: ClassVar[Mapping[int, str]] = {1: "(bytes of a text,)"}
    reads_bytes = True

    @property
    def layers(self) -> Mapping[str, int]:
        """The embedding layer."""
        return {"embedding": self.options.dim}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Length of the embedding."""
        return (self.options.dim,)

    def init_body(self, seed: int) -> Params:
        """Draw the embeddings of n-grams."""
        shape = (self.options.dim, self.options.buckets)
        unit = fan_in_uniform(seed, 0, shape, fan_in=1)  # has variance 1/3
        scale = _LENGTH * (3.0 / self.options.dim) ** 0.5
        return {"embedding.weight": scale * unit}

    def body(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        norm: Normalise,
        modulate: Modulate | None,
    ) -> Tensor:
        """Map texts to embeddings."""
        counts = count_ngrams(x, buckets=self.options.buckets, max_n=self.options.max_n)
        embedded = F.linear(counts, params["embedding.weight"])
        return embedded if modulate is None else modulate("embedding", embedded)


def count_ngrams(texts: Tensor, *, buckets: int, max_n: int) -> Tensor:
    """Return the square roots of the buckets' counts, [n, buckets], with rows of length 1.

    The row of an empty text is zero.

    Args:
        texts: [n, length], bytes as numbers, padded with zeros. The result has no gradient with
            respect to the texts.
        buckets: number of buckets.
        max_n: longest n-gram, in bytes.
    """
    bytes_ = texts.detach().long()
    is_capital = (bytes_ >= _UPPER_A) & (bytes_ <= _UPPER_Z)
    bytes_ = torch.where(is_capital, bytes_ + _TO_LOWER, bytes_)
    counts = texts.new_zeros(texts.shape[0], buckets)
    n_grams = torch.zeros_like(bytes_)
    for n in range(1, min(max_n, texts.shape[1]) + 1):
        last = bytes_[:, n - 1 :]
        n_grams = (n_grams[:, : last.shape[1]] * _FACTOR + last + n) % _MODULUS
        # texts contain no zeros, so a last byte of 0 means padding
        counts = counts.scatter_add(1, n_grams % buckets, (last != 0).to(texts.dtype))
    roots = counts.sqrt()
    return roots / roots.square().sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
