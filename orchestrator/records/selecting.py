"""Finds runs: those that a filter holds for, in the wanted order."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection

from metafleet.db.clock import database_now
from metafleet.db.records import EvaluationRecord, RunRecord, RunStatus
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.run_notes import RunNotes
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.records.entry import FIELDS, RESULT_KEYS, Entry, find_in, keys_of
from metafleet.orchestrator.records.expression import EVERYTHING, Both, Comparison, Condition
from metafleet.orchestrator.records.grouping import GROUP_KEYS, Group, group_runs
from metafleet.orchestrator.records.literals import ORDERS, shown
from metafleet.orchestrator.records.parsing import parse_filter
from metafleet.splits import META_TEST, META_VAL

_MOST_NAMED: Final = 3


class _Valued(Protocol):
    """A run or a group: it has values of keys."""

    def value(self, key: str) -> Any: ...


_Item = TypeVar("_Item", bound=_Valued)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A condition for the wanted runs, and their order.

    Attributes:
        condition: holds for the wanted runs; see ``parse_filter``.
        sort: keys to sort by. Runs with equal values of the first key are sorted by the second key,
            and so on. A leading "-" means descending order. Runs without a value come last. Of runs
            with equal values of all keys, the newest comes first.
        shown_keys: further keys whose values are read. Each of them must exist in at least one run.
        with_archived: whether archived runs are wanted. Even if False, archived runs are wanted if
            the condition names the key ``archived``.
        limit: maximum number of runs; None for no limit.
    """

    condition: Condition = EVERYTHING
    sort: tuple[str, ...] = ()
    shown_keys: tuple[str, ...] = ()
    with_archived: bool = False
    limit: int | None = None

    @classmethod
    def parse(cls, filters: Sequence[str], sort: str = "", **others: Any) -> "Selection":
        """Make a selection from filters, which must all hold, and sort keys, separated by commas.

        Raises:
            ConfigError: a filter cannot be parsed, or compares a field with an impossible value.
        """
        condition = Both(tuple(parse_filter(text) for text in filters))
        for each in condition.comparisons():
            if isinstance(each, Comparison):
                _check_value(each)
        return cls(condition=condition, sort=split_keys(sort), **others)

    def named_keys(self, without: Collection[str] = ()) -> list[str]:
        """Return the keys to filter by, to sort by and to show, except those in ``without``."""
        filtered = [each.key for each in self.condition.comparisons()]
        others = [key for key in (*map(_plain, self.sort), *self.shown_keys) if key not in without]
        return list(dict.fromkeys([*filtered, *others]))

    @property
    def hides_archived(self) -> bool:
        """Whether archived runs are left out."""
        return not self.with_archived and "archived" not in self.named_keys()

    @property
    def decides_by_results(self) -> bool:
        """Whether results or tags decide which runs are found, or their order."""
        return any(key in (*RESULT_KEYS, "tags") for key in self.named_keys())

    @property
    def is_newest_first(self) -> bool:
        """Whether every run is wanted, newest first, so that the database can count them off."""
        return not self.sort and next(self.condition.comparisons(), None) is None


def split_keys(text: str) -> tuple[str, ...]:
    """Split keys at commas: "id, name" gives ("id", "name")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def select_runs(session: Connection, wanted: Selection) -> list[Entry]:
    """Return the wanted runs with their results and tags.

    Raises:
        ConfigError: a key of the selection exists in no run. The message names the most similar
            keys.
    """
    found = _sorted(_matching(session, wanted), wanted.sort)[: wanted.limit]
    if wanted.decides_by_results:
        return found
    return with_results(session, [entry.run for entry in found])


def select_groups(session: Connection, wanted: Selection) -> list[Group]:
    """Return the groups of the runs for which the condition holds.

    ``sort`` and ``limit`` apply to groups, not to runs. This raises the errors of ``select_runs``.
    """
    entries = _matching(session, replace(wanted, limit=None), GROUP_KEYS)
    if not wanted.decides_by_results:
        entries = with_results(session, [entry.run for entry in entries])
    groups = group_runs(entries)
    return _sorted(groups, wanted.sort)[: wanted.limit]


def _matching(
    session: Connection, wanted: Selection, more_keys: Collection[str] = ()
) -> list[Entry]:
    """Return the runs for which the condition holds, newest first.

    The returned runs have results only if the condition or the order depends on results.
    ``more_keys`` are keys that no run has, but that are allowed among the keys to sort by and the
    keys to show.
    """
    repository = RunRepository(session)
    runs = repository.list(
        limit=wanted.limit if wanted.is_newest_first else None,
        archived=False if wanted.hides_archived else None,
        **_equal_to(wanted.condition),
    )
    check_keys(wanted.named_keys(without=more_keys), runs, repository)
    _check_orders(wanted.condition, runs)
    now = database_now(session)
    entries = [Entry(run) for run in runs]
    if wanted.decides_by_results:
        entries = with_results(session, runs)
    return [entry for entry in entries if wanted.condition.holds(entry.value, now) is True]


def with_results(session: Connection, runs: Sequence[RunRecord]) -> list[Entry]:
    """Return runs with their results and tags, by two queries for all runs."""
    ids = [run.id for run in runs]
    results: dict[int, dict[str, EvaluationRecord]] = {}
    for found in EvaluationRepository(session).list_results(ids):
        of_run = results.setdefault(found.run_id, {})
        if found.split == META_VAL:
            of_run |= {"best": found.best, "last": found.last}
        elif found.split == META_TEST:
            of_run["test"] = found.last
    tags = RunNotes(session).tags(ids)
    return [Entry(run, results.get(run.id, {}), tags.get(run.id, ())) for run in runs]


def _equal_to(condition: Condition) -> Mapping[str, Any]:
    """Return the conditions that the database checks itself, to read fewer runs."""
    parts = condition.parts if isinstance(condition, Both) else (condition,)
    found: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Both):
            found |= _equal_to(part)
        elif isinstance(part, Comparison) and part.sign == "=":
            if part.key == "status":
                found["status"] = RunStatus(part.literal.text)
            elif part.key == "experiment":
                found["experiment"] = part.literal.text
    return found


def _check_value(found: Comparison) -> None:
    """Refuse a comparison of a run's field with a text that no run can have."""
    known = FIELDS.get(found.key)
    if known is None and found.key in RESULT_KEYS:
        known = FIELDS["id"]  # a number as well
    if known is None or found.sign == "~" or known.accepts(found.literal.text):
        return
    raise ConfigError(
        f"--where: {found.key}{found.sign}{found.literal.text!r:.80}; expected {known.expected}"
    )


def _check_orders(condition: Condition, runs: Sequence[RunRecord]) -> None:
    """Refuse to order the numbers of a configuration's key with a text, such as outer.lr<abc.

    Raises:
        ConfigError: a key that is a number in every run is compared with a text.
    """
    for each in condition.comparisons():
        if not isinstance(each, Comparison) or each.sign not in ORDERS:
            continue
        if each.literal.number is not None or each.key in (*FIELDS, *RESULT_KEYS):
            continue
        values = [find_in(run.config, each.key) for run in runs]
        given = [value for value in values if value is not None]
        if given and all(isinstance(value, int | float) for value in given):
            raise ConfigError(
                f"--where: {each.key}{each.sign}{each.literal.text!r:.80}; expected a number"
            )


def check_keys(keys: Sequence[str], runs: Sequence[RunRecord], repository: RunRepository) -> None:
    """Check that every key is a field, a result, or in the configuration of a run.

    ``runs`` are looked at first. All runs of the database are read only if these lack a key.

    Raises:
        ConfigError: a key exists in no run. The message names the most similar keys.
    """
    missing = [key for key in keys if key not in (*FIELDS, *RESULT_KEYS) and not _is_in(key, runs)]
    if not missing:
        return
    everything = repository.list(limit=None)  # the database may have left out runs with the key
    wrong = next((key for key in missing if not _is_in(key, everything)), None)
    if wrong is None or not everything:
        return
    known = {key for run in everything for key in keys_of(run.config)}
    known |= {*FIELDS, *RESULT_KEYS}
    near = difflib.get_close_matches(wrong, sorted(known), n=_MOST_NAMED, cutoff=0.5)
    advice = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "expected a key of `metafleet runs show RUN --json` or of docs/reference/filters.md"
    )
    raise ConfigError(f"no run has the key {wrong!r:.80}; {advice}")


def _is_in(key: str, runs: Sequence[RunRecord]) -> bool:
    return any(find_in(run.config, key) is not None or key in keys_of(run.config) for run in runs)


def _plain(key: str) -> str:
    return key.removeprefix("-")


def _sorted(items: Sequence[_Item], sort: tuple[str, ...]) -> list[_Item]:
    """Sort by several keys, the last one first: sorting keeps the order of equal items."""
    found = list(items)
    for key in reversed(sort):
        valued = [(item, item.value(_plain(key))) for item in found]
        given = [(item, value) for item, value in valued if value is not None]
        given.sort(key=lambda pair: _rank(pair[1]), reverse=key.startswith("-"))
        missing = [item for item, value in valued if value is None]
        found = [*(item for item, _ in given), *missing]
    return found


def _rank(value: Any) -> tuple[int, Any]:
    """Order numbers before times before text."""
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, datetime) else (2, shown(value))
