"""What a run is doing now: its status, and whether it is retrying or waits for workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, and_, select

from metafleet.db.records import ATTEMPTS, OUTER_STEPS, RUNS, RunRecord, RunStatus
from metafleet.db.repositories.servers import ServerRepository

_TRAINING: Final = "train"
"""The stream of the outer steps, ``TRAIN_STREAM`` of the engine."""
_FAILURES: Final = ("failed", "lost", "refused", "rejected", "missing")
"""Outcomes after which a shard is sent again, see ``attempt_outcomes.AttemptOutcome``."""
_NO_WORKERS: Final = "no worker is alive; `metafleet up` or `metafleet worker` starts some"
_NO_SERVER: Final = "no server takes runs from the queue; `metafleet serve` starts one"


class State(StrEnum):
    """The statuses of runs, and two states that only an open run can have."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class LiveState:
    """The state of a run, and the reason for it; "" if there is nothing to say."""

    state: State
    reason: str = ""


def live_states(
    session: Connection, runs: Sequence[RunRecord], *, n_workers: int | None
) -> dict[int, LiveState]:
    """Return run id -> state.

    A run is ``retrying`` if a shard of its unfinished step failed or was lost and is computed
    again, or if it waits in the queue because its process died. It is ``paused`` if it needs
    workers and none is alive.

    Args:
        session: the database.
        runs: the runs.
        n_workers: number of workers that are alive; None if it is unknown.
    """
    running = [run.id for run in runs if run.status is RunStatus.RUNNING]
    retried = _retried(session, running) if running else {}
    fleet_runs = _on_fleet(session, running) if running and n_workers == 0 else frozenset()
    is_queued = any(run.status is RunStatus.QUEUED for run in runs)
    has_server = not is_queued or bool(ServerRepository(session).list_alive())
    found = {}
    for run in runs:
        state, reason = State(run.status.value), run.error or ""
        if run.status is RunStatus.QUEUED:
            state = State.RETRYING if reason else state
            reason = reason if has_server else _NO_SERVER
        elif run.id in fleet_runs or (run.id in running and run.detached and n_workers == 0):
            state, reason = State.PAUSED, _NO_WORKERS
        elif run.id in retried:
            state, reason = State.RETRYING, retried[run.id]
        found[run.id] = LiveState(state, reason)
    return found


def _retried(session: Connection, run_ids: Sequence[int]) -> Mapping[int, str]:
    """Return run id -> why an attempt in the run's unfinished step does not count."""
    columns = ATTEMPTS.c
    query = (
        select(columns.run_id, columns.step, columns.shard, columns.outcome, columns.detail)
        .join(RUNS, RUNS.c.id == columns.run_id)
        .where(
            columns.run_id.in_(run_ids),
            columns.stream == _TRAINING,
            columns.step > RUNS.c.steps_done,
            columns.outcome.in_(_FAILURES),
        )
        .order_by(columns.created_at)
    )
    return {
        row.run_id: f"step {row.step}, shard {row.shard}: {row.outcome}"
        + (f" ({row.detail})" if row.detail else "")
        for row in session.execute(query)
    }


def _on_fleet(session: Connection, run_ids: Sequence[int]) -> frozenset[int]:
    """Return the runs whose last step was computed by workers."""
    at_last = and_(OUTER_STEPS.c.run_id == RUNS.c.id, OUTER_STEPS.c.step == RUNS.c.steps_done)
    query = (
        select(RUNS.c.id)
        .join(OUTER_STEPS, at_last)
        .where(RUNS.c.id.in_(run_ids), OUTER_STEPS.c.attempts > 0)
    )
    return frozenset(session.scalars(query))
