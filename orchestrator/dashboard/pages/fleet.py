"""The fleet: the workers that are alive or were lately, and the runs they worked for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlalchemy import Connection, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.contracts.presence import WorkerInfo
from metafleet.db.records import RUNS, RunRecord
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.dashboard.site import Site, site_of

_MOST_RUNS: Final = 4
"""Number of newest runs of which the page tells: as many as ``Timelines`` keeps."""
_RATE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker.

    Attributes:
        name: "host:pid".
        info: what the worker says of itself; None if only the database knows it.
        device: the worker's device.
        jobs: number of its jobs in the newest runs.
        jobs_per_s: jobs in the last minute, in jobs per second.
        last_seen_s: seconds since its last heartbeat, or since its last job; None if unknown.
    """

    name: str
    info: WorkerInfo | None
    device: str
    jobs: int
    jobs_per_s: float
    last_seen_s: float | None

    @property
    def is_alive(self) -> bool | None:
        """Return whether the worker sends heartbeats; None if that is unknown."""
        return self.info.is_alive if self.info else None


@dataclass(slots=True)
class _Work:
    """What the newest runs say of one worker."""

    device: str = ""
    jobs: int = 0
    recent: int = 0
    last_us: int = 0


def show_fleet(request: Request) -> Response:
    """Show the workers and the newest runs."""
    site = site_of(request)
    with site.read() as session:
        runs = _newest_runs(session)
        work = _read_work(site, session, runs)
    return site.page(
        request,
        "fleet.html",
        workers=_rows(site.fleet.state.workers, work),
        runs=runs,
        flower_url=site.settings.flower_url,
    )


def _newest_runs(session: Connection) -> list[RunRecord]:
    order = (RUNS.c.started_at.desc(), RUNS.c.id.desc())
    query = select(RUNS.c.id).where(RUNS.c.started_at.is_not(None)).order_by(*order)
    ids = session.scalars(query.limit(_MOST_RUNS)).all()
    return [RunRepository(session).get(run_id) for run_id in ids]


def _read_work(site: Site, session: Connection, runs: Sequence[RunRecord]) -> dict[str, _Work]:
    since_us = int((time.time() - _RATE_S) * 1e6)
    found: dict[str, _Work] = {}
    for run in runs:
        timeline = site.timelines.get(session, run).timeline
        jobs, n = timeline.jobs, len(timeline.workers)
        counts = np.bincount(jobs.worker, minlength=n)
        recent = np.bincount(jobs.worker[jobs.counted >= since_us], minlength=n)
        last = np.zeros(n, dtype=np.int64)
        np.maximum.at(last, jobs.worker, jobs.counted)
        for code, name in enumerate(timeline.workers):
            if name and counts[code]:
                worker = found.setdefault(name, _Work())
                worker.device = timeline.devices.get(name, worker.device)
                worker.jobs += int(counts[code])
                worker.recent += int(recent[code])
                worker.last_us = max(worker.last_us, int(last[code]))
    return found


def _rows(alive: Sequence[WorkerInfo] | None, work: dict[str, _Work]) -> list[WorkerRow]:
    infos = {f"{info.host}:{info.pid}": info for info in alive or ()}
    rows = []
    for name in {*infos, *work}:
        info, done = infos.get(name), work.get(name, _Work())
        from_job_s = max(0.0, time.time() - done.last_us / 1e6) if done.last_us else None
        rows.append(
            WorkerRow(
                name=name,
                info=info,
                device=info.device if info else done.device,
                jobs=done.jobs,
                jobs_per_s=done.recent / _RATE_S,
                last_seen_s=info.last_seen_s if info else from_job_s,
            )
        )
    return sorted(rows, key=lambda row: (not row.is_alive, row.last_seen_s or 0.0, row.name))


ROUTES: Final = (Route("/fleet", show_fleet),)
