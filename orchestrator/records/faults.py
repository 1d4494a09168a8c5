"""What a run survived: attempts that failed or were lost, and workers that came and went."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.db.records import ATTEMPTS, OUTER_STEPS

MOST_FAULTS: Final = 100
"""Number of faults of each kind that are listed, the newest."""

_FAULTS: Final = tuple(
    map(AttemptOutcome, ("failed", "lost", "refused", "rejected", "missing", "late"))
)
_WORDS: Final = {
    ("late", "done"): "another attempt had counted first",
    ("late", "closed"): "another attempt had counted, and the step was done",
    ("lost", "message"): "its message was gone",
    ("lost", "worker"): "its worker was gone",
    ("lost", "hung"): "its worker hung",
    ("lost", "epoch"): "another process took over the run",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a run survived.

    Attributes:
        stream, step: the step in which it happened.
        what: "lost", another outcome of an attempt, or "workers".
        text: what happened, in words.
        at: when it became known, UTC; None if only the step is known.
        worker: "host:pid"; "" if unknown.
    """

    stream: str
    step: int
    what: str
    text: str
    at: datetime | None = None
    worker: str = ""


def read_faults(session: Connection, run_id: int) -> list[Fault]:
    """Return the newest faults of a run, in the order of their steps."""
    found = [*_lost_attempts(session, run_id), *_changes_of_workers(session, run_id)]
    return sorted(found, key=lambda fault: (fault.step, fault.at is not None))


def _lost_attempts(session: Connection, run_id: int) -> list[Fault]:
    """Return one fault for all shards that failed in the same way on the same worker."""
    columns = ATTEMPTS.c
    same = (columns.stream, columns.step, columns.worker, columns.outcome, columns.reason)
    at, shards = func.max(columns.created_at), func.count(columns.shard.distinct())
    detail = func.max(columns.detail)
    query = (
        select(*same, at.label("at"), shards.label("shards"), detail.label("detail"))
        .where(columns.run_id == run_id, columns.outcome.in_(_FAULTS))
        .group_by(*same)
        .order_by(at.desc())
        .limit(MOST_FAULTS)
    )
    return [_fault(row) for row in session.execute(query).all()]


def _fault(row: Any) -> Fault:
    words = row.detail or _WORDS.get((row.outcome, row.reason), row.reason.replace("_", " "))
    shards = "1 shard" if row.shards == 1 else f"{row.shards} shards"
    text = f"{shards} {row.outcome}: {words}"
    return Fault(row.stream, row.step, row.outcome, text, row.at, row.worker)


def _changes_of_workers(session: Connection, run_id: int) -> list[Fault]:
    columns = OUTER_STEPS.c
    before = func.lag(columns.workers_alive).over(order_by=columns.step).label("before")
    steps = select(columns.step, columns.workers_alive.label("alive"), before)
    of_run = steps.where(columns.run_id == run_id).subquery()
    query = (
        select(of_run)
        .where(of_run.c.before != of_run.c.alive)
        .order_by(of_run.c.step.desc())
        .limit(MOST_FAULTS)
    )
    return [
        Fault("train", row.step, "workers", _came_or_went(row.before, row.alive))
        for row in session.execute(query).all()
    ]


def _came_or_went(before: int, alive: int) -> str:
    change = abs(alive - before)
    noun = "worker" if change == 1 else "workers"
    return f"{change} {noun} {'came' if alive > before else 'went'}; {alive} alive"
