"""Distances between data sets by their descriptions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from metafleet.describing.description import Description
from metafleet.describing.figures import KIND

_PLAIN: Final = ("evenness", "missing")
"""Starts of the names of figures that are compared as they are; others by their logarithms."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The spread of each meta-feature over known data sets, which makes meta-features comparable.

    Attributes:
        spread: name -> standard deviation; meta-features without any are left out.
    """

    spread: Mapping[str, float]

    @classmethod
    def of(cls, descriptions: Sequence[Description]) -> Self:
        """Measure the spread over data sets."""
        rows = [features_of(each) for each in descriptions]
        names = sorted({name for row in rows for name in row})
        found = {}
        for name in names:
            values = [row[name] for row in rows if name in row]
            deviation = float(np.std(values)) if len(values) > 1 else 0.0
            if deviation > 1e-9:
                found[name] = deviation
        return cls(found)

    def distance(self, first: Description, second: Description) -> float:
        """Return the root mean square of the scaled differences; 0 for equal descriptions.

        A meta-feature that one of the two lacks does not count. Embeddings count as one
        meta-feature, if both were made by the same encoder. The share of kinds of data that only
        one of the two has is added to the mean square, because a configuration that suits pictures
        may be impossible for sounds.
        """
        a, b = features_of(first), features_of(second)
        squares = [
            ((a[name] - b[name]) / deviation) ** 2
            for name, deviation in self.spread.items()
            if name in a and name in b
        ]
        squares += [
            2 * (1 - _cosine(first.embeddings[encoder], second.embeddings[encoder]))
            for encoder in sorted(first.embeddings.keys() & second.embeddings.keys())
        ]
        mean = math.fsum(squares) / len(squares) if squares else 0.0
        return math.sqrt(mean + _other_kinds(first, second))


def features_of(description: Description) -> dict[str, float]:
    """Return name -> meta-feature on the scale on which meta-features are compared."""
    found = {
        name: value if name.startswith(_PLAIN) else math.log1p(value)
        for name, value in description.figures.items()
        if not name.startswith(KIND)
    }
    for each in description.landmarks:
        found[f"landmark.{each.measure}.{each.inputs}.{each.k_shot}"] = each.above_chance
    return found


def _other_kinds(first: Description, second: Description) -> float:
    """Return the share of kinds, of all that either has, that only one of the two has."""
    a, b = ({name for name in each.figures if name.startswith(KIND)} for each in (first, second))
    return len(a ^ b) / len(a | b) if a | b else 0.0


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    a, b = np.asarray(first), np.asarray(second)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths and len(a) == len(b) else 0.0
