"""Rows that a crashed run left are written to the database before the run is read."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sqlalchemy import text

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import OuterStepRepository, RunRepository
from metafleet.errors import RunNotFoundError
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.recording.left_rows import put_back_lost_runs, replay_left_rows
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.recording.rows import EpochRow, LostRun, StatusChange
from metafleet.orchestrator.recording.spill import SpillFile
from tests.databases import add_run, make_step


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"METAFLEET_HOME": str(tmp_path / "home")})


@pytest.fixture
def run(settings: Settings) -> RunRecord:
    """A run whose last three rows are in its spill file alone."""
    with Database.open(settings.database_url) as database:
        run = add_run(database)
    rows = [make_step(1), make_step(2), StatusChange(status=RunStatus.INTERRUPTED)]
    spill_of(settings, run).append(EpochRow(0, row) for row in rows)
    return run


def spill_of(settings: Settings, run: RunRecord) -> SpillFile:
    return SpillFile(settings.runs_dir / run.uid / "rows.jsonl")


def test_left_rows_are_shown(
    settings: Settings,
    run: RunRecord,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(settings.home))
    monkeypatch.delenv("METAFLEET_DATABASE_URL", raising=False)

    for _ in range(2):
        assert main(["runs", "show", run.uid, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert [step["step"] for step in shown["steps"]] == [1, 2]
        assert (shown["status"], shown["steps_done"]) == ("interrupted", 2)
    assert spill_of(settings, run).is_empty()


def test_rows_of_a_run_that_is_being_run_are_its_own_business(
    settings: Settings, run: RunRecord
) -> None:
    with (
        FileLock(settings.runs_dir / run.uid / "lock"),
        Database.open(settings.database_url) as database,
    ):
        replay_left_rows(database, settings, run, pytest.fail)

        with database.session(read_only=True) as session:
            assert OuterStepRepository(session).list(run.id) == ()
    assert not spill_of(settings, run).is_empty()


def test_rows_that_cannot_be_written_yet_wait_and_reading_goes_on(
    settings: Settings, run: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.db.connection.BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(settings.home / "metafleet.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    said: list[str] = []
    with Database.open(settings.database_url) as database:
        replay_left_rows(database, settings, run, said.append)

        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.id).status is RunStatus.CREATED
        (line,) = said
        assert line.startswith(f"rows of run {run.id} wait in ") and "database is locked" in line
        other.execute("ROLLBACK")
        replay_left_rows(database, settings, run, pytest.fail)
        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.id).status is RunStatus.INTERRUPTED


def lost_rows(settings: Settings, run: RunRecord) -> None:
    """Leave what a recorder leaves of a run at epoch 2 whose database does not come back."""
    lost = replace(run, epoch=2, status=RunStatus.RUNNING, owner="laptop:1/x")
    rows = [LostRun(run=lost), make_step(1), make_step(2)]
    spill_of(settings, run).append(EpochRow(2, row) for row in rows)


@pytest.fixture
def command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, str]]:
    """Run a command with --json; returns what it printed, and what it said on standard error."""
    monkeypatch.setenv("METAFLEET_HOME", str(settings.home))
    monkeypatch.delenv("METAFLEET_DATABASE_URL", raising=False)

    def call(*arguments: str) -> tuple[Any, str]:
        assert main([*arguments, "--json"]) == 0
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return call


@pytest.mark.parametrize("first", [("runs", "list"), ("runs", "show", "latest")])
def test_a_run_whose_database_was_lost_is_put_back_by_the_next_command(
    settings: Settings, command: Callable[..., tuple[Any, str]], first: tuple[str, ...]
) -> None:
    with Database.open(settings.database_url) as database:
        run = add_run(database)
    (settings.home / "metafleet.db").unlink()
    lost_rows(settings, run)

    _, said = command(*first)
    shown, _ = command("runs", "show", run.uid)

    assert f"run {run.id} ({run.uid}) was missing from the database; restored it" in said
    assert [step["step"] for step in shown["steps"]] == [1, 2]
    assert (shown["id"], shown["epoch"], shown["steps_done"]) == (run.id, 2, 2)
    assert shown["config"] == run.config and shown["experiment"] == run.experiment
    assert spill_of(settings, run).is_empty()


def test_a_lost_run_whose_number_was_given_to_another_gets_a_new_one(
    settings: Settings, command: Callable[..., tuple[Any, str]]
) -> None:
    with Database.open(settings.database_url) as database:
        run = add_run(database)
    (settings.home / "metafleet.db").unlink()
    with Database.open(settings.database_url) as database:
        another = add_run(database, name="another")
    assert another.id == run.id
    lost_rows(settings, run)

    listed, said = command("runs", "list")

    assert f"run 2 ({run.uid}), which was 1, was missing from the database" in said
    assert [(entry["id"], entry["uid"]) for entry in listed] == [(2, run.uid), (1, another.uid)]
    shown, _ = command("runs", "show", run.uid)
    assert [step["step"] for step in shown["steps"]] == [1, 2]


def test_a_run_put_back_into_postgresql_leaves_the_next_number_free(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings.load(
        {"METAFLEET_HOME": str(tmp_path), "METAFLEET_DATABASE_URL": postgres_url}
    )
    with Database.open(postgres_url) as database:
        lost = replace(add_run(database), id=7, uid="k2345678")
        lost_rows(settings, lost)
        said: list[str] = []

        put_back_lost_runs(database, settings, said.append)
        numbers = [add_run(database).id for _ in range(8)]

        assert said[0].startswith("run 7 (k2345678) was missing from the database")
        assert numbers == list(range(8, 16))


def test_a_run_that_the_database_lost_stops_and_leaves_all_that_is_needed_to_put_it_back(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings.load(
        {"METAFLEET_HOME": str(tmp_path), "METAFLEET_DATABASE_URL": postgres_url}
    )
    with Database.open(postgres_url) as database:
        run = add_run(database)
        path = spill_of(settings, run).path
        recorder = Recorder(database, run, epoch=0, spill_path=path)
        recorder.record_step(make_step(1))
        assert recorder.flush()
        with database.session() as session:
            for table in ("outer_steps", "runs"):
                session.execute(text(f"DELETE FROM {table}"))
        recorder.record_step(make_step(2))
        with pytest.raises(RunNotFoundError, match=r"rows are kept in .*rows\.jsonl"):
            recorder.flush()
        with suppress(RunNotFoundError):
            recorder.close()

        put_back_lost_runs(database, settings, print)

        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.id).uid == run.uid
            assert [s.step for s in OuterStepRepository(session).list(run.id)] == [2]
