"""Ranks configurations for a data set: by average ranks on near data sets, and by a surrogate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from metafleet.describing.description import Description
from metafleet.describing.distance import Scale
from metafleet.orchestrator.advice.evidence import Contest, key_of
from metafleet.orchestrator.advice.fitted import Fitted
from metafleet.orchestrator.advice.surrogate import Axes, Kernel, Matrix, Surrogate

_PRIOR: Final = 0.5
"""Weight of a middle rank, which configurations of few and far contests tend to."""
_Z_95: Final = 1.96
_MOST_LEFT_OUT: Final = 8


@dataclass(frozen=True, slots=True)
class Vote:
    """What one contest says of a configuration.

    Attributes:
        data: name of the contest's data set.
        distance: its distance from the target.
        rank: rank of the configuration there, in [0, 1]; 1 is best.
        score: its score there.
        runs: the runs behind it.
    """

    data: str
    distance: float
    rank: float
    score: float
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A configuration with the reasons for its place.

    Attributes:
        values: the configuration.
        average_rank: weighted mean of its ranks, in [0, 1]; 1 is best.
        predicted_rank: rank that the surrogate expects on the target, about 0 to 1.
        votes: the contests in which it took part, the nearest first.
    """

    values: Mapping[str, Any]
    average_rank: float
    predicted_rank: float
    votes: tuple[Vote, ...]

    @property
    def merit(self) -> float:
        """The number by which configurations are ranked."""
        return (self.average_rank + self.predicted_rank) / 2


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected accuracy of a configuration, with an interval.

    Attributes:
        mean: expected accuracy in [0, 1].
        low, high: ends of the interval.
        n_sets: number of data sets that were left out, one at a time, to set its width; with fewer
            than 2, the width is that of the surrogate alone.
    """

    mean: float
    low: float
    high: float
    n_sets: int


class Ranking:
    """The configurations of all contests, ranked for a target.

    Args:
        target: description of the data set that needs a configuration.
        contests: what is known, at least one.
        scale: how distances are measured; by default, by the spread over these data sets.
    """

    def __init__(
        self, target: Description, contests: Sequence[Contest], scale: Scale | None = None
    ) -> None:
        known = [contest.description for contest in contests]
        self._scale = scale or Scale.of([*known, target])
        self._target = target
        self.distances = [self._scale.distance(target, each) for each in known]
        order = sorted(range(len(contests)), key=lambda i: (self.distances[i], i))
        self._contests = [contests[i] for i in order]
        self.distances = [self.distances[i] for i in order]
        self._axes = Axes.of([r.values for c in contests for r in c.results])

    @property
    def contests(self) -> Sequence[Contest]:
        """The contests, the nearest first."""
        return self._contests

    def best(self, n: int | None = None) -> list[Ranked]:
        """Return the configurations, the most promising first."""
        votes = self._votes()
        values = {key: self._values[key] for key in votes}
        fitted = Fitted.of(self._contests, [c.ranks() for c in self._contests], self._axes)
        surrogate = Surrogate(fitted.configs, self._between(fitted), fitted.targets)
        means, _ = surrogate.predict(
            self._axes.distances(list(values.values()), fitted.values),
            self._from_target(fitted, len(values)),
        )
        found = [
            Ranked(values[key], _average(cast), float(mean), tuple(cast))
            for (key, cast), mean in zip(votes.items(), means, strict=True)
        ]
        return sorted(found, key=lambda each: (-each.merit, key_of(each.values)))[:n]

    def expect(self, values: Mapping[str, Any], n_way: int) -> Expectation | None:
        """Return the accuracy that a configuration is expected to have; None in regression."""
        skills = [contest.skills() for contest in self._contests]
        if n_way < 2 or any(each is None for each in skills):
            return None
        fitted = Fitted.of(self._contests, [s for s in skills if s is not None], self._axes)
        surrogate = Surrogate(fitted.configs, self._between(fitted), fitted.targets)
        mean, deviation = surrogate.predict(
            self._axes.distances([values], fitted.values), self._from_target(fitted, 1)
        )
        errors = self._errors(fitted, surrogate.kernel)
        width = _conformal(errors) * float(deviation[0])
        chance = 1 / n_way
        ends = [float(mean[0]) + side * width for side in (0, -1, 1)]
        middle, low, high = (min(max(chance + (1 - chance) * end, 0.0), 1.0) for end in ends)
        return Expectation(middle, low, high, len(errors))

    @property
    def _values(self) -> dict[str, Mapping[str, Any]]:
        return {key_of(r.values): r.values for c in self._contests for r in c.results}

    def _votes(self) -> dict[str, list[Vote]]:
        votes: dict[str, list[Vote]] = {}
        for contest, distance in zip(self._contests, self.distances, strict=True):
            for result, rank in zip(contest.results, contest.ranks(), strict=True):
                vote = Vote(contest.data, distance, rank, result.score, result.runs)
                votes.setdefault(key_of(result.values), []).append(vote)
        return votes

    def _between(self, fitted: Fitted) -> Matrix:
        """Return the distances between the data sets of the fitted results, [n, n]."""
        known = [contest.description for contest in self._contests]
        each = np.array([[self._scale.distance(a, b) for b in known] for a in known])
        found: Matrix = each[np.ix_(fitted.contests, fitted.contests)]
        return found

    def _from_target(self, fitted: Fitted, n: int) -> Matrix:
        """Return the distances of the fitted results' data sets from the target, [n, results]."""
        return np.tile(np.array(self.distances)[fitted.contests], (n, 1))

    def _errors(self, fitted: Fitted, kernel: Kernel) -> list[float]:
        """Return the scaled error on each data set whose results were left out.

        The error is that of the configuration that is best by the other data sets: it is such a
        configuration whose score is to be expected.
        """
        between, targets = self._between(fitted), np.array(fitted.targets)
        names = np.array([self._contests[i].description.digest for i in fitted.contests])
        found: list[float] = []
        for name in dict.fromkeys(names):
            inside = names == name
            if inside.all() or len(found) == _MOST_LEFT_OUT:
                continue
            outside = ~inside
            others = Surrogate(
                fitted.configs[np.ix_(outside, outside)],
                between[np.ix_(outside, outside)],
                list(targets[outside]),
                kernel,
            )
            means, deviations = others.predict(
                fitted.configs[np.ix_(inside, outside)], between[np.ix_(inside, outside)]
            )
            chosen = int(np.argmax(means))
            error = abs(means[chosen] - targets[inside][chosen]) / deviations[chosen]
            found.append(float(error))
        return found


def _average(votes: Sequence[Vote]) -> float:
    """Return the mean of the ranks, weighted by nearness, with a prior of a middle rank."""
    weights = [math.exp(-(vote.distance**2) / 2) for vote in votes]
    total = math.fsum(w * vote.rank for w, vote in zip(weights, votes, strict=True))
    return (total + _PRIOR * 0.5) / (math.fsum(weights) + _PRIOR)


def _conformal(errors: Sequence[float]) -> float:
    """Return the number of standard deviations that covers 95 % of such errors.

    Source: Vovk et al. 2005, "Algorithmic Learning in a Random World"; with fewer than 20 errors,
    the largest one.
    """
    if len(errors) < 2:
        return _Z_95
    place = min(math.ceil(0.95 * (len(errors) + 1)), len(errors))
    return max(sorted(errors)[place - 1], _Z_95)
