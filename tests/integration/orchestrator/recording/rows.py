"""Rows of a run, and waiting until they are written."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metafleet.db.engine import Database
from metafleet.db.records import CheckpointRecord, EpisodeResultsRecord, EvaluationRecord
from metafleet.db.repositories import JobRepository, OuterStepRepository, RunRepository
from metafleet.errors import MetafleetError
from metafleet.orchestrator.recording.recorder import RecorderLimits
from tests.databases import make_jobs
from tests.postgres import PostgresServer

QUICK = RecorderLimits(max_rows=40, batch_rows=16, linger_s=0.01, last_retry_s=0.2)
DEADLINE_S = 60.0


def evaluation(step: int) -> EvaluationRecord:
    return EvaluationRecord(
        step=step,
        split="meta_val",
        label="trained",
        episodes=200,
        loss=0.5,
        loss_ci95=0.1,
        accuracy=0.875,
        accuracy_ci95=0.01,
        batch_norm="none",
        is_best=True,
    )


def episodes(step: int) -> EpisodeResultsRecord:
    return EpisodeResultsRecord(
        step=step,
        split="meta_val",
        label="trained",
        episodes=3,
        losses=(0.1, 1 / 3, 1e-300),
        accuracies=(1.0, 2 / 3, 0.0),
    )


def checkpoint(step: int) -> CheckpointRecord:
    return CheckpointRecord(step=step, path="runs/1/a", sha256="c" * 64, size_bytes=10)


def take_over(database: Database, run_id: int) -> None:
    with database.session() as session:
        RunRepository(session).next_epoch(run_id)


def steps_of(database: Database, run_id: int) -> list[int]:
    with database.session(read_only=True) as session:
        return [step.step for step in OuterStepRepository(session).list(run_id)]


def assert_recorded(database: Database, run_id: int, n_steps: int) -> None:
    """Every step is there once, and every job once, with the right numbers."""
    with database.session(read_only=True) as session:
        steps = OuterStepRepository(session).list(run_id)
        jobs = JobRepository(session).list(run_id, stream="meta_train")
        found = RunRepository(session).get(run_id)
    assert [step.step for step in steps] == list(range(1, n_steps + 1))
    assert list(jobs) == [job for step in steps for job in make_jobs(step.step)]
    assert found.steps_done == n_steps


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """Stop the server for the length of a block."""
    server.stop()
    try:
        yield
    finally:
        server.start()


def eventually(claim: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except MetafleetError:
        return False
    return True
