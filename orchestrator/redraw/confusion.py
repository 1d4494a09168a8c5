"""Which classes are confused with which, over all episodes of an evaluation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ClassResult:
    """The results of one class.

    Attributes:
        name: the class.
        n: number of queries of the class over all episodes.
        n_right: number of those that were predicted to be of this class.
    """

    name: str
    n: int
    n_right: int

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return self.n_right / self.n


@dataclass(frozen=True, slots=True)
class Confusion:
    """Predictions over all episodes of an evaluation.

    A query can only be predicted to be of a class of its own episode. So the counts also depend on
    how often two classes are in the same episode, which ``met`` counts.

    Attributes:
        counts: (class, predicted class) -> number of queries.
        met: (class, other class) -> number of queries of the class in episodes with the other
            class.
        episodes: number of episodes.
        n_differing: number of episodes whose accuracy now differs from the recorded one.
    """

    counts: Mapping[tuple[str, str], int]
    met: Mapping[tuple[str, str], int]
    episodes: int
    n_differing: int

    def classes(self) -> list[ClassResult]:
        """Return the results of each class, the hardest class first."""
        n, right = Counter[str](), Counter[str]()
        for (true, predicted), count in self.counts.items():
            n[true] += count
            right[true] += count if true == predicted else 0
        found = [ClassResult(name, n[name], right[name]) for name in n]
        return sorted(found, key=lambda each: (each.accuracy, -each.n, each.name))

    def pairs(self) -> list[tuple[str, str, int, float]]:
        """Return (class, predicted class, count, share of the queries in episodes with both).

        The pairs that were confused most often are first. Pairs without confusion are left out.
        """
        found = [
            (true, predicted, count, count / self.met[true, predicted])
            for (true, predicted), count in self.counts.items()
            if true != predicted
        ]
        return sorted(found, key=lambda pair: (-pair[2], -pair[3], pair[0], pair[1]))

    def plus(self, other: "Confusion") -> "Confusion":
        """Return the predictions over the episodes of both."""
        return Confusion(
            Counter(self.counts) + Counter(other.counts),
            Counter(self.met) + Counter(other.met),
            self.episodes + other.episodes,
            self.n_differing + other.n_differing,
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for ``from_json``."""
        return {
            "counts": [[*pair, count] for pair, count in self.counts.items()],
            "met": [[*pair, count] for pair, count in self.met.items()],
            "episodes": self.episodes,
            "n_differing": self.n_differing,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Confusion":
        """Parse the values that ``to_json`` returned."""
        counts, met = (
            {(true, other): count for true, other, count in values[key]}
            for key in ("counts", "met")
        )
        return cls(counts, met, values["episodes"], values["n_differing"])


NOTHING: Final = Confusion({}, {}, 0, 0)
"""No episodes yet."""
