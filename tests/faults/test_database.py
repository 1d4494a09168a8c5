"""A database whose file is deleted or replaced under a run."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.settings import Settings, orchestrator_environment
from metafleet.db.engine import Database
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.cli.main import main
from tests.fleet import Fleet
from tests.running import ROWS, SHARDS, STEPS, Row, Running
from tests.runs import assert_every_shard_once, read_run


@pytest.fixture
def settings(standing_fleet: Fleet, tmp_path: Path) -> Settings:
    """The fleet's settings, with a database that may be broken."""
    path = tmp_path / "metafleet.db"
    return replace(standing_fleet.settings, database_url=f"sqlite:///{path}", home=tmp_path)


def path_of(settings: Settings) -> Path:
    return settings.home / "metafleet.db"


def delete(path: Path) -> None:
    for name in ("", "-wal", "-shm"):
        Path(f"{path}{name}").unlink(missing_ok=True)


def put_an_older_copy(path: Path) -> None:
    # the main file alone, as somebody copies it: what the log holds is not in it
    shutil.copy(path, f"{path}.older")
    delete(path)
    os.replace(f"{path}.older", path)


def put_an_empty_one(path: Path) -> None:
    delete(path)
    with Database.open(f"sqlite:///{path}"):
        pass


@pytest.mark.parametrize(
    ("lose", "happened"),
    [
        (delete, "put back, all rows"),
        (put_an_older_copy, "its rows went into the copy"),
        (put_an_empty_one, "run and rows went into it"),
    ],
)
def test_a_database_lost_under_a_run(
    settings: Settings, expected: str, lose: Callable[[Path], None], happened: str
) -> None:
    running = Running(settings)
    running.disturb(lambda: lose(path_of(settings)))

    broken = f"database file: {lose.__name__.replace('_', ' ')}"
    running.assert_undisturbed(expected, broken, happened)
    now = read_run(settings, running.run)
    assert (now.status.value, now.checkpoint_sha256) == ("finished", expected)
    assert any("was deleted or replaced while in use" in it for it in running.watcher.notices)


def test_a_database_replaced_by_garbage_under_a_run(
    settings: Settings, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(settings)

    def put_garbage() -> None:
        delete(path_of(settings))
        path_of(settings).write_bytes(b"garbage" * 1000)

    running.disturb(put_garbage)
    with pytest.raises(DatabaseUnavailableError, match=r"rows of it wait in .*rows\.jsonl") as stop:
        running.result()

    assert "\n" not in str(stop.value) and len(running.watcher.steps) == STEPS
    # what the message advises, once the garbage is gone
    path_of(settings).unlink()
    for name, value in orchestrator_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert main(["runs", "show", running.run.uid]) == 0
    now = read_run(settings, running.run)
    assert (now.status.value, now.checkpoint_sha256) == ("finished", expected)
    assert_every_shard_once(settings, running.run, steps=STEPS, shards=SHARDS)
    happened = "stopped and said so, all rows put back later"
    ROWS.append(Row("database file: garbage in its place", happened, None, True))
