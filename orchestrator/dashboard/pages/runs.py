"""The page of all runs: filtered, sorted, grouped over seeds, and compared with a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.db.records import RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError, RunNotFoundError
from metafleet.orchestrator.dashboard.site import Site, site_of
from metafleet.orchestrator.dashboard.view_state import whole
from metafleet.orchestrator.records.arms import group_of
from metafleet.orchestrator.records.entry import RESULTS, Entry
from metafleet.orchestrator.records.grouping import Group, differing_keys
from metafleet.orchestrator.records.selecting import (
    Selection,
    select_groups,
    select_runs,
    with_results,
)
from metafleet.orchestrator.records.states import LiveState, State, live_states

ON_PAGE: Final = 100
_MOST_PAGES: Final = 10_000
_MOST_DIFFERING: Final = 5
_OPEN_STATES: Final = (State.RETRYING, State.PAUSED)
"""States that a running or a queued run can have; the database does not store them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the page shows.

    Attributes:
        items: the runs or groups of this page.
        states: run id -> state of each shown run.
        has_more: whether there is a next page.
        counts: state -> number of runs that are not archived.
        keys: keys in which the groups differ.
        baseline: the run, or the group, that the others are compared with; None if there is none.
        problem: why nothing is shown; "" if there is no problem.
    """

    items: Sequence[Entry | Group] = ()
    states: Mapping[int, LiveState] | None = None
    has_more: bool = False
    counts: Mapping[str, int] | None = None
    keys: Sequence[str] = ()
    baseline: Entry | Group | None = None
    problem: str = ""


def show_runs(request: Request) -> Response:
    """Show the runs that the URL asks for."""
    site = site_of(request)
    found = _find(site, request.query_params)
    return site.page(
        request,
        "runs.html",
        status=400 if found.problem else 200,
        found=found,
        is_grouped=_is_on(request.query_params, "group"),
        page=_page(request.query_params),
        results=RESULTS,
        states=list(State),
        difference=_difference,
    )


def _find(site: Site, query: Mapping[str, str]) -> Found:
    with site.read() as session:
        try:
            baseline = _baseline(session, query)
            return _read(session, query, n_workers=site.fleet.state.n_alive, baseline=baseline)
        except (ConfigError, RunNotFoundError) as error:
            counts = RunRepository(session).count_by_status()
            return Found(counts=counts, problem=str(error).removeprefix("--where: "))


def _read(
    session: Connection,
    query: Mapping[str, str],
    *,
    n_workers: int | None,
    baseline: Entry | Group | None,
) -> Found:
    counts = dict(RunRepository(session).count_by_status())
    open_runs = [
        run
        for status in (RunStatus.RUNNING, RunStatus.QUEUED)
        if counts.get(status)
        for run in RunRepository(session).list(limit=None, status=status, archived=False)
    ]
    states = live_states(session, open_runs, n_workers=n_workers)
    for run in open_runs:
        state = states[run.id].state
        if state != run.status.value:
            counts[run.status] -= 1
            counts[state] = counts.get(state, 0) + 1
    first = (_page(query) - 1) * ON_PAGE
    wanted = Selection.parse(
        _filters(query, states),
        query.get("sort", ""),
        with_archived=_is_on(query, "archived"),
        limit=first + ON_PAGE + 1,
    )
    select = select_groups if _is_on(query, "group") else select_runs
    found: Sequence[Entry | Group] = select(session, wanted)
    items = found[first : first + ON_PAGE]
    shown = [run for item in items for run in _runs_of(item)]
    states |= live_states(session, [r for r in shown if r.id not in states], n_workers=n_workers)
    groups = [item for item in items if isinstance(item, Group)]
    return Found(
        items=items,
        states=states,
        has_more=len(found) > first + ON_PAGE,
        counts=counts,
        keys=differing_keys(groups)[:_MOST_DIFFERING],
        baseline=baseline,
    )


def _filters(query: Mapping[str, str], states: Mapping[int, LiveState]) -> list[str]:
    filters = [query.get("where", "")]
    state = query.get("state", "")
    if not state:
        return filters
    if state not in list(State):
        raise ConfigError(f"state={state!r:.40}; expected one of {', '.join(State)}")
    if state not in (*_OPEN_STATES, State.RUNNING, State.QUEUED):
        return [*filters, f"status={state}"]
    ids = [run_id for run_id, live in states.items() if live.state == state]
    return [*filters, " or ".join(f"id={run_id}" for run_id in ids) or "id=0"]


def _baseline(session: Connection, query: Mapping[str, str]) -> Entry | Group | None:
    ref = query.get("baseline", "")
    if not ref:
        return None
    run = RunRepository(session).get(ref)
    if _is_on(query, "group"):
        return group_of(session, run)
    return with_results(session, [run])[0]


def _difference(item: Entry | Group, baseline: Entry | Group | None, result: str) -> float | None:
    """Return how much greater a result is than the baseline's.

    Return None if one of them is missing, if one is a score and the other a loss, or if they were
    measured on different data.
    """
    if baseline is None or item.value("data") != baseline.value("data"):
        return None
    if item.is_share(result) != baseline.is_share(result):
        return None
    ours, theirs = item.value(result), baseline.value(result)
    return None if ours is None or theirs is None else ours - theirs


def _runs_of(item: Entry | Group) -> list[Any]:
    return [item.run] if isinstance(item, Entry) else [entry.run for entry in item.entries]


def _page(query: Mapping[str, str]) -> int:
    return whole(query, "page", otherwise=1, least=1, most=_MOST_PAGES)


def _is_on(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "") == "1"


ROUTES: Final = (Route("/", show_runs),)
