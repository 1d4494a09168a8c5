"""The results to which a surrogate is fitted: of many, a fair share of each data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.orchestrator.advice.evidence import Contest
from metafleet.orchestrator.advice.surrogate import Axes, Matrix

_MOST_RESULTS: Final = 400
"""The time to fit a surrogate grows with the cube of the number of results."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The results to which a surrogate is fitted.

    Attributes:
        values: the configuration of each result.
        contests: the place of each result's contest among the contests.
        targets: what the surrogate predicts of each result.
        configs: distances between the configurations, [results, results].
    """

    values: list[Mapping[str, Any]]
    contests: list[int]
    targets: list[float]
    configs: Matrix

    @classmethod
    def of(
        cls, contests: Sequence[Contest], targets: Sequence[Sequence[float]], axes: Axes
    ) -> "Fitted":
        """Take the results of the contests, or a share of each data set if there are too many.

        Args:
            contests: the contests, the nearest first.
            targets: for each contest, a number for each of its results; higher is better.
            axes: how distances between configurations are measured.
        """
        of_sets: dict[str, list[tuple[int, int]]] = {}
        for place, contest in enumerate(contests):
            pairs = [(place, number) for number in range(len(contest.results))]
            of_sets.setdefault(contest.description.digest, []).extend(pairs)
        shares = _shares([len(pairs) for pairs in of_sets.values()], _MOST_RESULTS)
        chosen: list[tuple[int, int]] = []
        for pairs, share in zip(of_sets.values(), shares, strict=True):
            best_first = sorted(pairs, key=lambda pair: -targets[pair[0]][pair[1]])
            chosen += _spread(best_first, share)
        chosen.sort()
        values = [contests[place].results[number].values for place, number in chosen]
        return cls(
            values,
            [place for place, _ in chosen],
            [targets[place][number] for place, number in chosen],
            axes.distances(values, values),
        )


def _shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divide ``most`` among groups of these sizes, one by one in turn, from the first group on."""
    shares = [0] * len(sizes)
    left = min(most, sum(sizes))
    while left:
        for group, size in enumerate(sizes):
            if left and shares[group] < size:
                shares[group] += 1
                left -= 1
    return shares


def _spread(pairs: Sequence[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Return ``n`` of the pairs at equal intervals, with the first, and from 2 on with the last."""
    if n < 2:
        return list(pairs[:n])
    return [pairs[i * (len(pairs) - 1) // (n - 1)] for i in range(n)]
