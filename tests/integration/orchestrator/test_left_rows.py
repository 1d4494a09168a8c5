"""Rows that a crashed run left are in the database before somebody reads about the run."""

import json
import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock

from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord, RunStatus
from db.repositories import OuterStepRepository, RunRepository
from orchestrator.cli.main import main
from orchestrator.left_rows import replay_left_rows
from orchestrator.rows import EpochRow, StatusChange
from orchestrator.spill import SpillFile
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
    monkeypatch.setattr("db.connection.BUSY_TIMEOUT_S", 0.05)
    other = sqlite3.connect(settings.home / "metafleet.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    said: list[str] = []
    with Database.open(settings.database_url) as database:
        replay_left_rows(database, settings, run, said.append)

        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.id).status is RunStatus.CREATED
        (text,) = said
        assert text.startswith(f"rows of run {run.id} wait in ") and "database is locked" in text
        other.execute("ROLLBACK")
        replay_left_rows(database, settings, run, pytest.fail)
        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.id).status is RunStatus.INTERRUPTED
