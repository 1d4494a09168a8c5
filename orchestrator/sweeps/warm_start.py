"""The first configurations of a sweep, from the results of past runs on similar data sets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories import SweepRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.advice.evidence import Contest, Result
from metafleet.orchestrator.advice.knowledge import Knowledge, gather_knowledge
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.space import Parameter, is_used, is_within

MOST: Final = 5
"""Number of configurations with which a warm-started sweep begins."""
_FEW: Final = 2


def warm_started(
    database: Database, settings: Settings, plan: Plan
) -> tuple[Plan, Knowledge | None]:
    """Return the plan with the configurations that it tries first, and what is known for its data.

    A sweep that has begun keeps the configurations with which it began. Nothing is gathered then.

    Raises:
        ConfigError: no result of past runs, or of the portfolio, is in the space of the sweep.
    """
    with database.session(read_only=True) as session:
        sweeps = SweepRepository(session)
        begun = sweeps.find(plan.name)
        has_trials = begun is not None and bool(sweeps.trials(begun.id))
    if begun is not None and has_trials:
        first, known = tuple(begun.plan["first"]), None
    else:
        known = gather_knowledge(database, settings, plan.config.data)
        first = first_configurations(known, plan.search.space, most=min(MOST, plan.n_trials))
    return replace(plan, search=replace(plan.search, first=first)), known


def first_configurations(
    known: Knowledge, space: Sequence[Parameter], *, most: int = MOST
) -> tuple[dict[str, Any], ...]:
    """Return the most promising configurations of a space, as key -> value, the best first.

    Only results whose values the space has can be used. Results that differ only in keys outside
    the space count as one, with the mean of their scores.

    Raises:
        ConfigError: there are no such results.
    """
    contests = [found for c in known.contests if len((found := _within(c, space)).results) >= _FEW]
    if not contests:
        keys = ", ".join(dict.fromkeys(parameter.key for parameter in space))
        raise ConfigError(
            f"--warm-start: no data set has {_FEW} results whose values of {keys} are in the "
            "space; leave --warm-start out, or widen the space"
        )
    ranking = replace(known, contests=tuple(contests)).ranking()
    return tuple(dict(ranked.values) for ranked in ranking.best(most))


def _within(contest: Contest, space: Sequence[Parameter]) -> Contest:
    """Return the contest of the space's configurations alone."""
    groups: dict[str, list[Result]] = {}
    for result in contest.results:
        values = _values_in(result.values, space)
        if values is not None:
            inside = replace(result, values=values)
            groups.setdefault(json.dumps(values, sort_keys=True), []).append(inside)
    merged = [
        Result(
            alike[0].values,
            fmean(result.score for result in alike),
            tuple(run for result in alike for run in result.runs),
        )
        for alike in groups.values()
    ]
    return replace(contest, results=tuple(merged))


def _values_in(values: Mapping[str, Any], space: Sequence[Parameter]) -> dict[str, Any] | None:
    """Return what a configuration says of the space's keys; None if the space has no such values.

    A conditional parameter that the configuration does not use is left out.
    """
    found: dict[str, Any] = {}
    for parameter in space:
        if not is_used(parameter, found):
            continue
        value = values.get(parameter.key)
        if not is_within(parameter, {**found, parameter.key: value}):
            return None
        found[parameter.key] = value
    return found
