"""Suggestions: the most promising configurations that fit a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from metafleet.inference.card.text import to_toml
from metafleet.orchestrator.advice.experiment_file import (
    Sizes,
    experiment_of,
    find_problem,
    find_sizes,
    open_source,
)
from metafleet.orchestrator.advice.knowledge import Knowledge
from metafleet.orchestrator.advice.ranking import Expectation, Ranked, Ranking

_MOST_TRIED: Final = 200
FAR: Final = 1.5
"""Distance from which the nearest data set is called far: random sets of one kind are nearer."""


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Configurations for a data set, the most promising first, at least one.

    Attributes:
        ranked: the configurations.
        experiments: complete experiments with them, in the same order.
        near: names of data sets with their distances, the nearest first.
        expectation: expected best meta-validation of the first one; None in regression.
        n_runs: number of runs behind the suggestions.
        n_sets: number of data sets behind them.
        is_portfolio: whether they come from the shipped portfolio.
        notes: what was left out, and why.
    """

    ranked: tuple[Ranked, ...]
    experiments: tuple[Mapping[str, Any], ...]
    near: tuple[tuple[str, float], ...]
    expectation: Expectation | None
    n_runs: int
    n_sets: int
    is_portfolio: bool
    notes: tuple[str, ...]

    @property
    def common_keys(self) -> list[str]:
        """Keys with the same value in all suggestions."""
        first = self.ranked[0].values
        return [
            key
            for key, value in first.items()
            if all(key in each.values and each.values[key] == value for each in self.ranked)
        ]

    @property
    def differing_keys(self) -> list[str]:
        """Keys in which suggestions differ."""
        keys = {key: None for each in self.ranked for key in each.values}
        return [key for key in keys if key not in self.common_keys]

    def file_text(self) -> str:
        """Return the first suggestion as an experiment file."""
        origin = "results that Metafleet ships" if self.is_portfolio else "past runs"
        near = ", ".join(f"{data} ({distance:.2f})" for data, distance in self.near[:3])
        return (
            f"# Suggested from {self.n_runs} runs on {self.n_sets} data sets ({origin}).\n"
            f"# Similar data sets, with distances: {near}.\n"
            f"# {self.confidence()}\n\n{to_toml(self.experiments[0]).strip()}\n"
        )

    def confidence(self) -> str:
        """Return how sure the first suggestion is, on one line."""
        far = (
            f"weak evidence: the nearest data set is at distance {self.near[0][1]:.2f}; "
            if self.near[0][1] > FAR
            else ""
        )
        if self.expectation is None:
            return f"{far}losses of different data are not comparable, so no loss is expected"
        expected = self.expectation
        if expected.n_sets < 2:
            checked = "too few data sets to check the interval"
        else:
            checked = f"interval checked on {expected.n_sets} data sets that were left out"
        return (
            f"{far}expected meta_val accuracy of the first: {100 * expected.mean:.0f} % "
            f"({100 * expected.low:.0f} to {100 * expected.high:.0f} %; {checked})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the suggestions as JSON values."""
        return {
            "suggestions": [
                {
                    "values": dict(each.values),
                    "average_rank": each.average_rank,
                    "predicted_rank": each.predicted_rank,
                    "votes": [asdict(vote) for vote in each.votes],
                    "experiment": experiment,
                }
                for each, experiment in zip(self.ranked, self.experiments, strict=True)
            ],
            "near": [{"data": data, "distance": distance} for data, distance in self.near],
            "expected": self.expectation and asdict(self.expectation),
            "runs": self.n_runs,
            "data_sets": self.n_sets,
            "from_portfolio": self.is_portfolio,
            "notes": list(self.notes),
        }


def suggest_for(
    known: Knowledge,
    settings: Settings,
    options: Mapping[str, Any],
    *,
    top: int,
    n_way: int | None = None,
    k_shot: int | None = None,
) -> Suggestions:
    """Return the most promising configurations that fit the data set.

    Args:
        known: what is known for it.
        settings: where the data are.
        options: name and options of the data set.
        top: maximum number of configurations.
        n_way: wanted classes of an episode; None for a number that fits.
        k_shot: wanted support examples of a class; None for a number that fits.

    Raises:
        ConfigError: nothing is known for such data, no known configuration fits them, or the data
            are too few for such episodes.
    """
    source = open_source(options, settings)
    sizes = find_sizes(source, n_way=n_way, k_shot=k_shot)
    if not known.contests:
        kind = "regression" if source.target_dim else "classification"
        raise ConfigError(
            f"no evidence: there are no finished runs with validation on {kind} data that can be "
            "compared; train at least two configurations on one data set, for example with "
            "`metafleet sweep`"
        )
    ranking = known.ranking()
    ranked: list[Ranked] = []
    experiments: list[Mapping[str, Any]] = []
    problems: list[str] = []
    for each in ranking.best(_MOST_TRIED):
        tree = experiment_of(options, each.values, sizes)
        problem = find_problem(tree, source, settings)
        if problem:
            problems.append(problem)
            continue
        ranked.append(each)
        experiments.append(tree)
        if len(ranked) == top:
            break
    if not ranked:
        raise ConfigError(f"none of {len(problems)} known configurations fits: {problems[0]}")
    return Suggestions(
        ranked=tuple(ranked),
        experiments=tuple(experiments),
        near=_near(ranking),
        expectation=ranking.expect(ranked[0].values, sizes.n_way),
        n_runs=known.n_runs,
        n_sets=known.n_sets,
        is_portfolio=known.is_portfolio,
        notes=(*known.notes, *_notes(problems, sizes)),
    )


def _near(ranking: Ranking) -> tuple[tuple[str, float], ...]:
    nearest: dict[str, float] = {}
    for contest, distance in zip(ranking.contests, ranking.distances, strict=True):
        nearest.setdefault(contest.data, distance)
    return tuple(nearest.items())


def _notes(problems: Sequence[str], sizes: Sizes) -> list[str]:
    notes = []
    if problems:
        what = "configuration does" if len(problems) == 1 else "configurations do"
        notes.append(f"{len(problems)} known {what} not fit the data, for example: {problems[0]}")
    if not sizes.validates:
        notes.append("meta_val is too small for such episodes, so the experiment has no validation")
    return notes
