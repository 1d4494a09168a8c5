"""The recorder loses no row and writes none twice, whatever happens to the database."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db.engine import Database
from db.records import CheckpointRecord, EvaluationRecord, RunRecord, RunStatus
from db.repositories import (
    CheckpointRepository,
    EvaluationRepository,
    JobRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.errors import DatabaseError, FencedError, MetafleetError, RunNotFoundError
from orchestrator.left_rows import replay_spill
from orchestrator.recorder import Recorder
from orchestrator.recorder_limits import RecorderLimits
from orchestrator.spill import SpillFile
from tests.databases import add_run, make_jobs, make_step
from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[3]
QUICK = RecorderLimits(max_rows=40, batch_rows=16, linger_s=0.01, last_retry_s=0.2)
DEADLINE_S = 60.0


@pytest.fixture
def run(database: Database) -> RunRecord:
    return add_run(database)


@pytest.fixture
def spill_path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "1" / "rows.jsonl"


@pytest.fixture
def recorder(database: Database, run: RunRecord, spill_path: Path) -> Iterator[Recorder]:
    with Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK) as recorder:
        yield recorder


def test_everything_recorded_is_in_the_database_after_a_flush(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    for step in range(1, 31):
        recorder.record_step(make_step(step), make_jobs(step))
    recorder.record_jobs(make_jobs(30, stream="meta_val"))
    recorder.record_evaluation(evaluation(30))
    recorder.record_checkpoint(checkpoint(30))
    recorder.record_status(RunStatus.FINISHED)

    assert recorder.flush() and recorder.status is None
    assert_recorded(database, run.id, 30)
    with database.session(read_only=True) as session:
        found = RunRepository(session).get(run.id)
        assert len(JobRepository(session).list(run.id, stream="meta_val")) == 4
        assert EvaluationRepository(session).list(run.id) == (evaluation(30),)
        assert CheckpointRepository(session).list(run.id) == (checkpoint(30),)
    assert (found.steps_done, found.checkpoint_sha256) == (30, "c" * 64)
    assert found.status is RunStatus.FINISHED


def test_rows_arrive_without_a_flush(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    recorder.record_step(make_step(1), make_jobs(1))

    eventually(lambda: steps_of(database, run.id) == [1])


def test_a_replayed_step_is_there_once_with_its_newest_numbers(
    database: Database, run: RunRecord, recorder: Recorder
) -> None:
    for loss in (3.0, 2.0):
        recorder.record_step(make_step(1, loss=loss), make_jobs(1))
        recorder.record_step(make_step(2, loss=loss), make_jobs(2))
        recorder.flush()

    with database.session(read_only=True) as session:
        assert [s.loss for s in OuterStepRepository(session).list(run.id)] == [2.0, 2.0]
    assert_recorded(database, run.id, 2)


def test_a_flush_waits_for_no_rows_that_came_after_it(
    database: Database, run: RunRecord, recorder: Recorder, spill_path: Path
) -> None:
    ended = threading.Event()

    def go_on() -> None:
        for step in range(2, 100_000):
            recorder.record_step(make_step(step))
            if ended.wait(0.001):
                return

    recorder.record_step(make_step(1), make_jobs(1))
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert recorder.flush(timeout_s=30.0)
        assert 1 in steps_of(database, run.id)
        assert not spill_path.exists()
    finally:
        ended.set()
        thread.join()


def test_closing_twice_is_harmless(recorder: Recorder) -> None:
    assert recorder.close() and recorder.close()


class TestFencing:
    def test_a_fenced_out_owner_writes_nothing_more(
        self, database: Database, run: RunRecord, spill_path: Path
    ) -> None:
        recorder = Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK)
        recorder.record_step(make_step(1), make_jobs(1))
        recorder.flush()
        take_over(database, run.id)

        with pytest.raises(FencedError, match=r"at epoch 1, not 0; .* rows are kept in"):
            for step in range(2, 10_000):
                recorder.record_step(make_step(step), make_jobs(step))
                time.sleep(0.001)
        for call in (recorder.flush, recorder.close):
            with pytest.raises(FencedError):
                call()
        assert steps_of(database, run.id) == [1]

    def test_the_new_owner_fills_gaps_from_the_old_one_but_keeps_its_own_rows(
        self, database: Database, run: RunRecord, spill_path: Path
    ) -> None:
        old = Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK)
        take_over(database, run.id)
        with Recorder(database, run.id, epoch=1, spill_path=spill_path, limits=QUICK) as new:
            new.record_step(make_step(2, loss=22.0), make_jobs(2))
            assert new.flush()
            old.record_step(make_step(1, loss=1.0), make_jobs(1))
            old.record_step(make_step(2, loss=2.0), make_jobs(2))
            old.record_status(RunStatus.FAILED, error="fenced")
            with pytest.raises(FencedError):
                old.flush()

            assert new.flush()
        assert steps_of(database, run.id) == [1, 2]
        with database.session(read_only=True) as session:
            assert [s.loss for s in OuterStepRepository(session).list(run.id)] == [1.0, 22.0]
            found = RunRepository(session).get(run.id)
        assert (found.steps_done, found.status) == (2, RunStatus.CREATED)

    def test_rows_from_before_the_owner_raised_the_epoch_are_its_own(
        self, database: Database, run: RunRecord, recorder: Recorder
    ) -> None:
        recorder.record_step(make_step(1, loss=1.0), make_jobs(1))
        recorder.flush()
        recorder.record_step(make_step(1, loss=2.0), make_jobs(1))
        recorder.record_checkpoint(checkpoint(1))
        assert recorder.raise_epoch() == 1
        recorder.record_step(make_step(2), make_jobs(2))
        assert recorder.flush()

        with database.session(read_only=True) as session:
            assert OuterStepRepository(session).list(run.id)[0].loss == 2.0
            assert RunRepository(session).get(run.id).checkpoint_sha256 == "c" * 64
        take_over(database, run.id)
        with pytest.raises(FencedError, match="at epoch 2, not 1"):
            recorder.raise_epoch()

    def test_a_run_that_does_not_exist_is_said_to_the_owner(
        self, database: Database, spill_path: Path
    ) -> None:
        recorder = Recorder(database, 77, epoch=0, spill_path=spill_path, limits=QUICK)
        recorder.record_step(make_step(1))

        with pytest.raises(RunNotFoundError, match=r"no run 77.*\(1 rows are kept in"):
            recorder.flush()
        assert "no run 77" in str(recorder.status)

    def test_the_first_error_of_a_block_is_not_hidden(
        self, database: Database, spill_path: Path
    ) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            Recorder(database, 77, epoch=0, spill_path=spill_path, limits=QUICK) as recorder,
        ):
            recorder.record_step(make_step(1))
            1 / 0  # noqa: B018 - any error of the owner's


class TestDatabaseAway:
    def test_training_goes_on_while_postgresql_is_stopped(
        self, postgres: PostgresServer, postgres_url: str, spill_path: Path
    ) -> None:
        with Database.open(postgres_url) as database:
            run = add_run(database)
            recorder = Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK)
            recorder.record_step(make_step(1), make_jobs(1))
            assert recorder.flush()

            with stopped(postgres):
                for step in range(2, 101):
                    recorder.record_step(make_step(step), make_jobs(step))
                eventually(lambda: "rows waiting" in str(recorder.status))
                assert "database away for" in str(recorder.status)
                # each attempt to write renames the file, so its name comes and goes
                eventually(lambda: not SpillFile(spill_path).is_empty())
                assert not recorder.flush()
            for step in range(101, 111):
                recorder.record_step(make_step(step), make_jobs(step))

            eventually(lambda: recorder.status is None)
            assert recorder.close()
            assert_recorded(database, run.id, 110)
            assert [path.suffix for path in spill_path.parent.iterdir()] in ([], [".lock"] * 2)

    def test_a_crashed_server_costs_nothing(
        self, postgres: PostgresServer, postgres_url: str, spill_path: Path
    ) -> None:
        with Database.open(postgres_url) as database:
            run = add_run(database)
            with Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK) as rows:
                for step in range(1, 301):
                    rows.record_step(make_step(step), make_jobs(step))
                    if step % 100 == 0:
                        postgres.kill()
                        postgres.start()
                eventually(lambda: rows.flush(1.0))
            assert_recorded(database, run.id, 300)

    def test_a_frozen_server_does_not_stop_the_caller(
        self, postgres: PostgresServer, postgres_url: str, spill_path: Path
    ) -> None:
        with Database.open(postgres_url) as database:
            run = add_run(database)
            recorder = Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK)
            recorder.record_step(make_step(1), make_jobs(1))
            assert recorder.flush()
            postgres.freeze()
            try:
                slowest_s = 0.0
                for step in range(2, 201):
                    started = time.perf_counter()
                    recorder.record_step(make_step(step), make_jobs(step))
                    slowest_s = max(slowest_s, time.perf_counter() - started)
                assert not recorder.close(timeout_s=0.2)
            finally:
                postgres.thaw()
            assert slowest_s < 1.0

            with Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK) as again:
                eventually(lambda: again.flush(1.0))
            assert_recorded(database, run.id, 200)

    def test_rows_left_at_the_end_are_written_by_the_next_start(
        self, postgres: PostgresServer, postgres_url: str, spill_path: Path
    ) -> None:
        with Database.open(postgres_url) as database:
            run = add_run(database)
            with stopped(postgres):
                with Recorder(
                    database, run.id, epoch=0, spill_path=spill_path, limits=QUICK
                ) as recorder:
                    for step in range(1, 6):
                        recorder.record_step(make_step(step), make_jobs(step))
                    recorder.record_status(RunStatus.FINISHED)
                    assert not recorder.close(timeout_s=1.0)
                with pytest.raises(DatabaseError):
                    replay_spill(database, run.id, spill_path)

            assert replay_spill(database, run.id, spill_path) == 26
            assert replay_spill(database, run.id, spill_path) == 0
            assert_recorded(database, run.id, 5)
            with database.session(read_only=True) as session:
                assert RunRepository(session).get(run.id).status is RunStatus.FINISHED

    def test_a_locked_sqlite_file_is_waited_for(
        self, tmp_path: Path, spill_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("db.connection.BUSY_TIMEOUT_S", 0.05)
        with Database.open(f"sqlite:///{tmp_path}/x.db") as database:
            run = add_run(database)
            other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK) as rows:
                for step in range(1, 31):
                    rows.record_step(make_step(step), make_jobs(step))
                eventually(lambda: "database is locked" in str(rows.status))
                other.execute("ROLLBACK")
                eventually(lambda: rows.flush(1.0))
            assert_recorded(database, run.id, 30)

    def test_without_database_and_without_disk_rows_stay_in_memory(
        self, postgres: PostgresServer, postgres_url: str, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("in the way of a folder")
        spill_path = tmp_path / "file" / "rows.jsonl"
        with Database.open(postgres_url) as database:
            run = add_run(database)
            with Recorder(database, run.id, epoch=0, spill_path=spill_path, limits=QUICK) as rows:
                with stopped(postgres):
                    for step in range(1, 51):
                        rows.record_step(make_step(step), make_jobs(step))
                    eventually(lambda: "cannot be written" in str(rows.status))
                    with pytest.raises(DatabaseError, match=r"neither to the database .* nor to"):
                        rows.flush(0.5)
                eventually(lambda: succeeds(lambda: rows.flush(1.0)))
            assert_recorded(database, run.id, 50)


RECORD_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from db.engine import Database
from orchestrator.recorder import Recorder
from tests.databases import make_jobs, make_step
with Database.open(sys.argv[1]) as database:
    recorder = Recorder(database, 1, epoch=0, spill_path=Path(sys.argv[2]))
    for step in count(1):
        recorder.record_step(make_step(step), make_jobs(step))
        if step % 10 == 0:
            recorder.flush()
            print(step, flush=True)
"""


def test_kill_9_loses_nothing_that_was_flushed(
    database: Database, database_url: str, run: RunRecord, spill_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD_FOR_EVER, database_url, str(spill_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    flushed = [int(process.stdout.readline()) for _ in range(5)][-1]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    with Recorder(database, run.id, epoch=0, spill_path=spill_path) as recorder:
        assert recorder.flush()
    steps = steps_of(database, run.id)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= flushed
    assert_recorded(database, run.id, len(steps))


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
