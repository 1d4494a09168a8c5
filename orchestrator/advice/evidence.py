"""Evidence: the results of configurations on data sets, as past runs found them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metafleet.describing.description import Description

Values = Mapping[str, Any]
"""Dotted key of a configuration -> value."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one configuration in a contest.

    Attributes:
        values: what the configuration says of model, learner and training.
        score: mean over seeds of the best meta-validation; higher is better: an accuracy in [0, 1],
            or minus a loss.
        runs: ids of the runs; empty in the shipped portfolio.
    """

    values: Values
    score: float
    runs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Contest:
    """Runs whose scores can be compared: on the same data, validated on the same episodes.

    Attributes:
        data: name of the data set.
        description: its description.
        n_way, k_shot: size of the episodes of meta-validation; n_way is 0 in regression.
        results: one for each configuration.
    """

    data: str
    description: Description
    n_way: int
    k_shot: int
    results: tuple[Result, ...] = field(default=())

    @property
    def n_runs(self) -> int:
        """Number of runs; a result of the portfolio counts as one."""
        return sum(max(len(result.runs), 1) for result in self.results)

    def ranks(self) -> list[float]:
        """Return the rank of each result in [0, 1]: 1 for the best, 0.5 for a single one."""
        scores = [result.score for result in self.results]
        if len(scores) < 2:
            return [0.5] * len(scores)
        return [
            (sum(other < score for other in scores) + (scores.count(score) - 1) / 2)
            / (len(scores) - 1)
            for score in scores
        ]

    def skills(self) -> list[float] | None:
        """Return each accuracy, scaled so that 0 is chance and 1 is perfect; None for losses."""
        if self.n_way < 2:
            return None
        chance = 1 / self.n_way
        return [(result.score - chance) / (1 - chance) for result in self.results]


def key_of(values: Values) -> str:
    """Return a text that is equal for equal configurations."""
    return repr(sorted((key, _plain(value)) for key, value in values.items()))


def _plain(value: Any) -> str:
    """Return a text that is equal for equal values: 1 and 1.0 are, as are lists and tuples."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return repr(value)
    if isinstance(value, int | float):
        return repr(float(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return repr(value)
