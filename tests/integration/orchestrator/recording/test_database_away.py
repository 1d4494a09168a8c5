"""The recorder continues while the database is unreachable."""

import sqlite3
import time
from pathlib import Path

import pytest

from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.errors import DatabaseError
from metafleet.orchestrator.recording.left_rows import replay_spill
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.recording.spill import SpillFile
from tests.databases import add_run, make_jobs, make_step
from tests.integration.orchestrator.recording.rows import (
    QUICK,
    assert_recorded,
    eventually,
    stopped,
    succeeds,
)
from tests.postgres import PostgresServer


def test_training_goes_on_while_postgresql_is_stopped(
    postgres: PostgresServer, postgres_url: str, spill_path: Path
) -> None:
    with Database.open(postgres_url) as database:
        run = add_run(database)
        recorder = Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK)
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
    postgres: PostgresServer, postgres_url: str, spill_path: Path
) -> None:
    with Database.open(postgres_url) as database:
        run = add_run(database)
        with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as rows:
            for step in range(1, 301):
                rows.record_step(make_step(step), make_jobs(step))
                if step % 100 == 0:
                    postgres.kill()
                    postgres.start()
            eventually(lambda: rows.flush(1.0))
        assert_recorded(database, run.id, 300)


def test_a_frozen_server_does_not_stop_the_caller(
    postgres: PostgresServer, postgres_url: str, spill_path: Path
) -> None:
    with Database.open(postgres_url) as database:
        run = add_run(database)
        recorder = Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK)
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

        with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as again:
            eventually(lambda: again.flush(1.0))
        assert_recorded(database, run.id, 200)


def test_rows_left_at_the_end_are_written_by_the_next_start(
    postgres: PostgresServer, postgres_url: str, spill_path: Path
) -> None:
    with Database.open(postgres_url) as database:
        run = add_run(database)
        with stopped(postgres):
            with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as recorder:
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
    tmp_path: Path, spill_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.db.connection.BUSY_TIMEOUT_S", 0.05)
    with Database.open(f"sqlite:///{tmp_path}/x.db") as database:
        run = add_run(database)
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as rows:
            for step in range(1, 31):
                rows.record_step(make_step(step), make_jobs(step))
            eventually(lambda: "database is locked" in str(rows.status))
            other.execute("ROLLBACK")
            eventually(lambda: rows.flush(1.0))
        assert_recorded(database, run.id, 30)


def test_without_database_and_without_disk_rows_stay_in_memory(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    spill_path = tmp_path / "file" / "rows.jsonl"
    with Database.open(postgres_url) as database:
        run = add_run(database)
        with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as rows:
            with stopped(postgres):
                for step in range(1, 51):
                    rows.record_step(make_step(step), make_jobs(step))
                eventually(lambda: "cannot be written" in str(rows.status))
                with pytest.raises(DatabaseError, match=r"neither to the database .* nor to"):
                    rows.flush(0.5)
            eventually(lambda: succeeds(lambda: rows.flush(1.0)))
        assert_recorded(database, run.id, 50)
