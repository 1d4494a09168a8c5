"""No network at all: the modalities as they come, each with a mark of who has it."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from metafleet.models.base import Modulate
from metafleet.models.batch_norm import Normalise
from metafleet.models.ngram_bag import NgramBagOptions, count_ngrams
from metafleet.models.presence import presence
from metafleet.models.raw_features import RawFeatures

_NGRAMS = NgramBagOptions()


class Marked(NamedTuple):
    """One modality of n examples.

    Attributes:
        values: [n, d], zeros where absent.
        present: [n], 1 or 0.
    """

    values: Tensor
    present: Tensor


class MarkedFeatures(RawFeatures):
    """Of each modality in order of name: its numbers, flattened, and then 1, or 0 where absent.

    Args:
        modalities: modality -> shape of one example.
        texts: those of them that are bytes of a text, which are no amounts: their n-grams are
            counted instead, as ``ngram_bag`` counts them.
    """

    def __init__(self, modalities: Mapping[str, tuple[int, ...]], texts: frozenset[str]) -> None:
        super().__init__(
            {name: (_NGRAMS.buckets,) if name in texts else s for name, s in modalities.items()}
        )
        self._texts = texts

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Numbers and marks of one example."""
        return (super().feature_shape[0] + len(self._sizes),)

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to features [n, d]."""
        columns = []
        for name, size in self._sizes.items():
            mark = presence(inputs, name)[:, None]
            values = self._numbers(name, inputs[name]) if name in inputs else mark.expand(-1, size)
            columns += [values * mark, mark]
        return torch.cat(columns, dim=1)

    features = forward

    def apart(self, features: Tensor) -> Iterator[Marked]:
        """Yield the modalities of features [n, d]."""
        start = 0
        for size in self._sizes.values():
            yield Marked(features[:, start : start + size], features[:, start + size])
            start += size + 1

    def _numbers(self, name: str, values: Tensor) -> Tensor:
        if name in self._texts:
            return count_ngrams(values, buckets=_NGRAMS.buckets, max_n=_NGRAMS.max_n)
        return values.flatten(1)
