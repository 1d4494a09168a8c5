"""Rows of a run in the database, for tests of sinks."""

from metafleet.db.engine import Database
from metafleet.db.records import CheckpointRecord, RunRecord, RunStatus
from metafleet.db.repositories import (
    CheckpointRepository,
    EvaluationRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.orchestrator.tracking.source import RunSource
from metafleet.tracking.follower import Follower
from metafleet.tracking.sink import Sink
from tests.databases import make_step
from tests.integration.orchestrator.recording.rows import evaluation


def record_steps(database: Database, run: RunRecord, first: int, last: int) -> None:
    with database.session() as session:
        rows = [make_step(step) for step in range(first, last + 1)]
        OuterStepRepository(session).upsert_many(run.id, rows)


def record_evaluation(database: Database, run: RunRecord, step: int) -> None:
    with database.session() as session:
        EvaluationRepository(session).upsert_many(run.id, [evaluation(step)])


def record_checkpoint(database: Database, run: RunRecord, step: int) -> None:
    row = CheckpointRecord(
        step=step, path=f"/runs/{step}.safetensors", sha256=f"{step:064d}", size_bytes=1000 + step
    )
    with database.session() as session:
        CheckpointRepository(session).upsert_many(run.id, [row])


def mark(database: Database, run: RunRecord, status: RunStatus, *, error: str = "") -> None:
    with database.session() as session:
        RunRepository(session).mark_status(run.id, status, error=error or None)


def follower(database: Database, run: RunRecord, sink: Sink) -> Follower:
    return Follower(RunSource(database, run.uid), sink)
