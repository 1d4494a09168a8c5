"""The fleet during one run: the timeline of its workers, and the faults that the run survived."""

import json
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from metafleet.db.repositories.jobs import JobRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.site import site_of
from metafleet.orchestrator.dashboard.view_state import MOST, whole
from metafleet.orchestrator.records.faults import read_faults
from metafleet.orchestrator.records.timeline_view import Range, TimelineView
from metafleet.orchestrator.records.trace_events import trace_parts

_TRAINING: Final = "train"
_MOST_MS: Final = 10**12


def show_run_fleet(request: Request) -> Response:
    """Show the fleet during a run. The browser asks for the timeline itself."""
    site = site_of(request)
    with site.read() as session:
        run = RunRepository(session).get(request.path_params["ref"])
        faults = read_faults(session, run.id)
        attempts = JobRepository(session).has_times(run.id)
    return site.page(
        request,
        "run_fleet.html",
        run=run,
        faults=faults,
        has_times=attempts,
        flower_url=site.settings.flower_url,
        query=request.query_params,
    )


def show_timeline(request: Request) -> Response:
    """Return the part of a run's timeline that the URL names as JSON."""
    site = site_of(request)
    with site.read() as session:
        run = RunRepository(session).get(request.path_params["run_id"])
        view = site.timelines.get(session, run)
    answer = view.within(*range_of(view, request.query_params))
    text = json.dumps(answer, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type="application/json")


def range_of(view: TimelineView, query: Mapping[str, str]) -> Range:
    """Return the range of a view in microseconds since the first attempt.

    The query has ``step`` and perhaps ``stream``, or ``begin`` and ``end`` in milliseconds, or
    ``last``, the number of seconds before the end; otherwise, the range is the whole run.

    Raises:
        ConfigError: no attempt of this step has known times.
    """
    extent = view.extent[1] - view.extent[0]
    if query.get("step"):
        stream = query.get("stream") or _TRAINING
        step = whole(query, "step", otherwise=0, least=0, most=MOST)
        found = view.of_step(stream, step)
        if found is None:
            raise ConfigError(f"there are no times of step {step} of {stream!r:.80}")
        return found
    if query.get("last"):
        last_s = whole(query, "last", otherwise=60, least=1, most=MOST)
        return max(0, extent - last_s * 10**6), extent
    begin = whole(query, "begin", otherwise=0, least=0, most=_MOST_MS) * 1000
    end = whole(query, "end", otherwise=0, least=0, most=_MOST_MS) * 1000
    return (begin, end) if end > begin else (0, extent)


def download_trace(request: Request) -> Response:
    """Return the whole timeline in the Trace Event Format."""
    site = site_of(request)
    with site.read() as session:
        run = RunRepository(session).get(request.path_params["run_id"])
        timeline = site.timelines.get(session, run).timeline
    return StreamingResponse(
        trace_parts(timeline, f"{run.name} #{run.id}"),
        media_type="application/json",
        headers={"content-disposition": f'attachment; filename="run-{run.id}.trace.json"'},
    )


ROUTES: Final = (
    Route("/runs/{run_id:int}/timeline.json", show_timeline),
    Route("/runs/{run_id:int}/trace.json", download_trace),
    Route("/runs/{ref}/fleet", show_run_fleet),
)
