"""What is known for a data set: its description, and the evidence of past runs or the portfolio."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.data.registry import open_data
from metafleet.db.engine import Database
from metafleet.describing.description import Description
from metafleet.describing.distance import Scale
from metafleet.errors import ConfigError, DataError, MetafleetError
from metafleet.orchestrator.advice.descriptions import (
    describe_and_store,
    label_of,
    stored_descriptions,
)
from metafleet.orchestrator.advice.evidence import Contest
from metafleet.orchestrator.advice.past_runs import PastRuns, read_past_runs
from metafleet.orchestrator.advice.portfolio import read_portfolio
from metafleet.orchestrator.advice.ranking import Ranking
from metafleet.orchestrator.reporting.figures import counted

_MOST_DESCRIBED: Final = 20
_FEW: Final = 2
"""A contest of fewer configurations ranks nothing."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known for a data set.

    Attributes:
        target: its description.
        contests: results on other data, and on the same data; empty if nothing is known.
        is_portfolio: whether the results are those of the shipped portfolio.
        notes: what was left out, and why.
    """

    target: Description
    contests: tuple[Contest, ...]
    is_portfolio: bool
    notes: tuple[str, ...]

    @property
    def n_runs(self) -> int:
        """Number of runs behind the results."""
        return sum(contest.n_runs for contest in self.contests)

    @property
    def n_sets(self) -> int:
        """Number of data sets behind the results."""
        return len({contest.description.digest for contest in self.contests})

    def ranking(self) -> Ranking:
        """Rank the configurations. Distances are measured by the spread over all known sets."""
        known = [contest.description for contest in (*self.contests, *read_portfolio())]
        return Ranking(self.target, self.contests, Scale.of([*known, self.target]))


def gather_knowledge(
    database: Database, settings: Settings, options: Mapping[str, Any]
) -> Knowledge:
    """Describe a data set, and collect the results of finished runs on data of its kind.

    Data of past runs that are on this machine are described as well, up to 20 of them. If no
    result can be used, those of the shipped portfolio are returned.

    Raises:
        ConfigError, DataError: the data set is unknown, not prepared, or damaged.
    """
    target = describe_and_store(database, settings, options)
    past, notes = _past_runs(database, settings)
    is_regression = target.figures.get("targets", 0.0) > 0
    usable, small = _usable(past, is_regression=is_regression)
    if small:
        notes.append(
            f"{counted(small, 'configuration')} cannot be ranked and "
            f"{'is' if small == 1 else 'are'} not used: no other one was tried on the same data "
            "and episodes"
        )
    name = label_of(options)
    others = [c for c in usable if c.data == name and c.description.digest != target.digest]
    if others:
        n_runs = sum(contest.n_runs for contest in others)
        notes.append(
            f"{counted(n_runs, 'run')} on {name!r} with another split or other options "
            f"{'counts' if n_runs == 1 else 'count'} as on another data set"
        )
    if usable:
        return Knowledge(target, tuple(usable), False, tuple(notes))
    shipped, _ = _usable(PastRuns(read_portfolio()), is_regression=is_regression)
    return Knowledge(target, tuple(shipped), True, tuple(notes))


def _past_runs(database: Database, settings: Settings) -> tuple[PastRuns, list[str]]:
    """Read past runs; describe their data first, if they have no description yet."""
    with database.session(read_only=True) as session:
        past = read_past_runs(session, stored_descriptions(session))
    if not past.undescribed:
        return past, []
    here = (o for digest, o in past.undescribed.items() if _is_here(settings, o, digest))
    for options in islice(here, _MOST_DESCRIBED):
        with suppress(ConfigError, DataError):  # named below
            describe_and_store(database, settings, options)
    with database.session(read_only=True) as session:
        past = read_past_runs(session, stored_descriptions(session))
    names = sorted({label_of(options) for options in past.undescribed.values()})
    if not names:
        return past, []
    listed = ", ".join(map(repr, names[:_FEW]))
    return past, [
        f"{len(past.undescribed)} data sets of past runs have no description ({listed}); prepare "
        "them and run `metafleet data describe`, to use their runs"
    ]


def _is_here(settings: Settings, options: Mapping[str, Any], digest: str) -> bool:
    """Return whether the data of a run are on this machine, without changes."""
    try:
        data = open_data(options, settings.data_dir, allowed_packages=settings.allowed_packages)
        return data.is_ready() and data.digest() == digest
    except MetafleetError:
        return False


def _usable(past: PastRuns, *, is_regression: bool) -> tuple[list[Contest], int]:
    """Return the contests of this kind, and how many results are alone in theirs."""
    alike = [c for c in past.contests if (c.n_way == 0) == is_regression]
    return [c for c in alike if len(c.results) >= _FEW], sum(len(c.results) < _FEW for c in alike)
