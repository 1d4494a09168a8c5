"""A model without parameters: the raw modalities, each with a mark of its presence."""

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
        values: [n, d], zeros where the modality is absent.
        present: [n], 1 where the modality is present, 0 where it is absent.
    """

    values: Tensor
    present: Tensor


class MarkedFeatures(RawFeatures):
    """Concatenates the flattened modalities. Each is followed by 1 if it is present, else by 0.

    Modalities are in the order of their names.

    Args:
        modalities: modality -> shape of one example.
        texts: the modalities that are bytes of a text. Bytes are not quantities. Their n-grams are
            therefore counted, as in ``ngram_bag``.
    """

    def __init__(self, modalities: Mapping[str, tuple[int, ...]], texts: frozenset[str]) -> None:
        super().__init__(
            {name: (_NGRAMS.buckets,) if name in texts else s for name, s in modalities.items()}
        )
        self._texts = texts

    @property
    def sizes(self) -> list[int]:
        """Count of numbers in each modality, in order of name."""
        return list(self._sizes.values())

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The count of numbers and marks in one example."""
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
        """Split features [n, d] into modalities."""
        start = 0
        for size in self._sizes.values():
            yield Marked(features[:, start : start + size], features[:, start + size])
            start += size + 1

    def _numbers(self, name: str, values: Tensor) -> Tensor:
        if name in self._texts:
            return count_ngrams(values, buckets=_NGRAMS.buckets, max_n=_NGRAMS.max_n)
        return values.flatten(1)
