"""Finds what is compared: runs, and groups of runs that differ only in their seed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.grouping import Group, differing_keys, group_runs
from metafleet.orchestrator.records.selecting import Selection, select_runs, with_results

_FILTER: Final = re.compile(r"[=<>~\s]")
"""Ids, uids and names of runs have none of these characters."""
_MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: the argument that names this side.
        group: the runs of this side.
    """

    name: str
    group: Group

    @property
    def runs(self) -> tuple[Entry, ...]:
        """One run for each seed, in the order of seeds.

        For a seed with several runs, it is the newest finished run. If no run of the seed has
        finished, it is the newest run.
        """
        by_seed: dict[int, Entry] = {}
        newest_first = self.group.entries
        for entry in sorted(newest_first, key=lambda it: it.run.status is not RunStatus.FINISHED):
            by_seed.setdefault(entry.run.seed, entry)
        return tuple(by_seed[seed] for seed in sorted(by_seed))


def find_arms(session: Connection, names: Sequence[str]) -> list[Arm]:
    """Return the runs that each argument names.

    An id, a uid or "latest" names one run. A name of runs (as given by ``submit --name``) names the
    newest run with this name and all runs with this name that differ from the newest one only in
    the seed. A filter, such as "learner.name=maml and outer.lr=0.01", names all matching runs. The
    matching runs must differ only in the seed.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigError: there are fewer than two arguments, two arguments name the same run, no run
            matches a filter, or the runs that match a filter differ in more than the seed.
    """
    if len(names) < 2:
        raise ConfigError(f"{len(names)} run to compare; expected two or more runs or groups")
    return refuse_common_runs([find_arm(session, name) for name in names])


def refuse_common_runs(arms: list[Arm]) -> list[Arm]:
    """Return the arms; raise ConfigError if two of them have a run in common."""
    seen: dict[int, str] = {}
    for arm in arms:
        for run_id in sorted(entry.run.id for entry in arm.group.entries):
            if run_id in seen:
                raise ConfigError(
                    f"{seen[run_id]!r:.80} and {arm.name!r:.80} both name run {run_id}; expected "
                    "arguments without a common run"
                )
        seen |= {entry.run.id: arm.name for entry in arm.group.entries}
    return arms


def find_arm(session: Connection, name: str) -> Arm:
    """Return the runs that one argument names; see ``find_arms``.

    Raises:
        RunNotFoundError, ConfigError: as for ``find_arms``.
    """
    return Arm(name, _group(session, name))


def _group(session: Connection, name: str) -> Group:
    if _FILTER.search(name):
        return _matching(session, name)
    run = RunRepository(session).get(name)
    if name != run.name or name in (str(run.id), run.uid):
        return Group(tuple(with_results(session, [run])))
    return group_of(session, run)


def group_of(session: Connection, run: RunRecord) -> Group:
    """Return the runs with the name of ``run`` that differ from it only in the seed."""
    others = RunRepository(session).list(limit=None, archived=None, experiment=run.experiment)
    groups = group_runs(Entry(other) for other in others if other.name == run.name)
    found = next(group for group in groups if run.id in (entry.run.id for entry in group.entries))
    return Group(tuple(with_results(session, [entry.run for entry in found.entries])))


def _matching(session: Connection, text: str) -> Group:
    entries = select_runs(session, Selection.parse([text]))
    groups = group_runs(entries)
    if not groups:
        raise ConfigError(f"no run matches {text!r:.80}; see `metafleet runs list`")
    if len(groups) > 1:
        keys = differing_keys(groups) or ["experiment"]
        named = ", ".join(keys[:_MOST_NAMED]) + (" ..." if len(keys) > _MOST_NAMED else "")
        raise ConfigError(
            f"{text!r:.80} matches {len(groups)} groups of runs, which differ in {named}; "
            "expected runs that differ only in the seed: narrow the filter"
        )
    return groups[0]
