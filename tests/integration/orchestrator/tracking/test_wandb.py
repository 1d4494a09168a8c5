"""Runs in W&B's offline files and in Trackio's database, read back: complete, each point once."""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trackio
import wandb
from trackio.sqlite_storage import SQLiteStorage
from wandb.proto import wandb_internal_pb2 as messages

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.errors import ConfigError
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.tracking.live import tracked_run
from metafleet.tracking.targets import open_sink
from metafleet.tracking.wandb import WandbSink
from tests.databases import add_run
from tests.fleet import wait_until
from tests.integration.orchestrator.tracking.rows import (
    follower,
    mark,
    record_checkpoint,
    record_evaluation,
    record_steps,
)

_BLOCK = 32_768


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Both libraries write below a folder of the test."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    folder = tmp_path / "trackio"
    for name in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(importlib.import_module(name), "TRACKIO_DIR", folder)
    yield folder
    wandb.teardown()


def records_of(path: Path) -> Iterator[Any]:
    """Read a file of W&B: blocks of LevelDB's log format after a header of seven bytes."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = _BLOCK - at % _BLOCK
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if left < 7 or kind == 0:
            at += left
            continue
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            message = messages.Record()
            message.ParseFromString(record)
            record = b""
            yield message


def lines_of(folder: Path) -> tuple[list[dict[str, str]], list[int]]:
    """Return the logged lines of all offline runs, and their exit codes."""
    wandb.teardown()  # waits until W&B's own process has written everything
    lines, codes = [], []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for record in records_of(path):
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                lines.append({one.key or "/".join(one.nested_key): one.value_json for one in items})
            elif record.WhichOneof("record_type") == "exit":
                codes.append(record.exit.exit_code)
    return lines, codes


def test_wandb_gets_a_run_and_only_what_is_missing_after_a_kill(
    database: Database, tmp_path: Path
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 3)
    record_evaluation(database, run, 3)
    killed = follower(database, run, WandbSink("wandb", "mine"))
    killed.send()
    killed.drop()  # W&B's own process writes what a killed one has logged
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "the next second")  # in names of W&B's folders
    record_steps(database, run, 2, 5)
    record_checkpoint(database, run, 4)
    record_evaluation(database, run, 1)  # a late evaluation of an earlier step
    mark(database, run, RunStatus.FAILED, error="it broke")
    follower(database, run, WandbSink("wandb", "mine")).end()

    lines, codes = lines_of(tmp_path)
    losses = [
        (one["outer_step"], one["meta_train/loss"]) for one in lines if "meta_train/loss" in one
    ]
    assert [int(step) for step, _ in losses] == [1, 2, 3, 4, 5]
    assert [float(loss) for _, loss in losses] == pytest.approx([1 / n for n in range(1, 6)])
    scores = [int(one["outer_step"]) for one in lines if "meta_val/score" in one]
    assert sorted(scores) == [1, 3]
    assert [one["outer_step"] for one in lines if "checkpoint/size_bytes" in one] == ["4"]
    assert codes[-1] == 1


def test_an_open_wandb_run_is_used_and_left_open(database: Database, tmp_path: Path) -> None:
    run, other = add_run(database), add_run(database, seed=2)
    record_steps(database, run, 1, 2)
    with wandb.init(project="mine", settings=wandb.Settings(silent=True, console="off")) as opened:
        Run(database, Settings.load({}), run).send_to(opened)
        Run(database, Settings.load({}), run).send_to(opened)
        opened.log({"own": 1.0})

    lines, codes = lines_of(tmp_path)
    assert [one["outer_step"] for one in lines if "meta_train/loss" in one] == ["1", "2"]
    assert any("own" in one for one in lines) and codes == [0]
    assert other.uid != run.uid


def test_trackio_gets_a_run_and_only_what_is_missing_after_a_kill(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 3)
    record_evaluation(database, run, 3)
    follower(database, run, open_sink("trackio:mine")).send()  # and killed
    record_steps(database, run, 2, 5)
    record_evaluation(database, run, 1)
    mark(database, run, RunStatus.FAILED, error="it broke")
    follower(database, run, open_sink("trackio:mine")).end()

    (name,) = SQLiteStorage.get_runs("mine")
    assert name == f"{run.name}-{run.uid}"
    logged = SQLiteStorage.get_logs("mine", name)
    losses = {one["step"]: one["meta_train/loss"] for one in logged if "meta_train/loss" in one}
    assert losses == {step: pytest.approx(1 / step) for step in range(1, 6)}
    assert len([one for one in logged if "meta_train/loss" in one]) == 5
    assert sorted(one["step"] for one in logged if "meta_val/score" in one) == [1, 3]
    assert [one["metafleet_status"] for one in logged if "metafleet_status" in one] == [
        "failed: it broke"
    ]
    assert capsys.readouterr().out == ""


def test_an_open_trackio_run_is_used_and_left_open(database: Database) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 2)
    opened = trackio.init(project="mine", name="own", auto_log_cpu=False, auto_log_gpu=False)
    Run(database, Settings.load({}), run).send_to(opened)
    opened.log({"own": 1.0})
    opened.finish()

    logged = SQLiteStorage.get_logs("mine", "own")
    assert [one["step"] for one in logged if "meta_train/loss" in one] == [1, 2]
    assert any("own" in one for one in logged)


@pytest.mark.parametrize("library", ["wandb", "trackio"])
def test_a_library_that_fails_does_not_stop_the_run(
    database: Database, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 3)

    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(importlib.import_module(library), "init", fail)
    notices: list[str] = []
    with tracked_run(database, run.uid, [f"{library}:mine"], notices.append):
        mark(database, run, RunStatus.FINISHED)

    (notice,) = notices
    assert "gets no more of this run (no route to host); the run goes on" in notice


@pytest.mark.parametrize(
    ("library", "install"),
    [("wandb", r"pip install 'metafleet\[wandb\]'"), ("trackio", "pip install trackio")],
)
def test_without_the_library_the_command_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=install):
        open_sink(f"{library}:mine")


def test_wandb_without_a_key_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()
    with pytest.raises(ConfigError, match="W&B has no API key; set WANDB_API_KEY"):
        open_sink("wandb:mine")
