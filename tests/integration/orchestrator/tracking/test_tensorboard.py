"""Runs in TensorBoard, read back by TensorBoard: complete, each point once, whatever happens."""

import errno
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import EvaluationRepository, OuterStepRepository, RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.tracking.live import tracked_run
from metafleet.orchestrator.tracking.source import RunSource
from metafleet.tracking.follower import Follower
from metafleet.tracking.targets import open_sink
from metafleet.tracking.tensorboard import TensorBoardSink
from tests.databases import add_run, make_step
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.recording.rows import evaluation

Command = Callable[..., int]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def read(folder: Path) -> EventAccumulator:
    (place,) = folder.iterdir()
    found = EventAccumulator(str(place), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in read(folder).Scalars(tag)]


def text(folder: Path, tag: str) -> str:
    found = read(folder).Tensors(f"{tag}/text_summary")
    return str(tensor_util.make_ndarray(found[-1].tensor_proto)[0], "utf-8")


def record_steps(database: Database, run: RunRecord, first: int, last: int) -> None:
    with database.session() as session:
        rows = [make_step(step) for step in range(first, last + 1)]
        OuterStepRepository(session).upsert_many(run.id, rows)


def expected(first: int, last: int) -> list[tuple[int, Any]]:
    return [(step, pytest.approx(1 / step, rel=1e-6)) for step in range(first, last + 1)]


def test_a_run_is_sent_while_it_is_executed_and_once(
    home: Path, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    monkeypatch.setenv("METAFLEET_TRACK", f"tensorboard:{logs}")
    assert main(["submit", file, "--in-process"]) == 0
    with Database.open(f"sqlite:///{home}/metafleet.db") as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get("latest")
        run = Run(database, Settings.load(), record)
        curve, judged = run.curve(), run.evaluations()

    sent = scalars(logs, "meta_train/loss")
    assert [step for step, _ in sent] == curve["step"]
    assert [loss for _, loss in sent] == pytest.approx(curve["loss"], rel=1e-6)
    validations = [e for e in judged if e["split"] == "meta_val"]
    assert scalars(logs, "meta_val/loss") == [
        (e["step"], pytest.approx(e["loss"], rel=1e-6)) for e in validations
    ]
    assert len(scalars(logs, "meta_test/initialisation/loss")) == 1
    assert "| outer.steps | 6 |" in text(logs, "configuration")
    assert text(logs, "status") == "finished"

    assert main(["runs", "export", "latest", "--format", "tensorboard", "--output", str(logs)]) == 0
    assert scalars(logs, "meta_train/loss") == sent
    again = tmp_path / "again"
    assert main(["runs", "export", "1", "--format", "tensorboard", "--output", str(again)]) == 0
    assert scalars(again, "meta_train/loss") == sent


def test_a_failed_run_is_shown_failed(
    home: Path, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLEET_TRACK", f"tensorboard:{tmp_path / 'logs'}")
    assert main(["submit", file, "--in-process", "--set", "learner.inner_lr=1e30"]) == 1

    assert text(tmp_path / "logs", "status").startswith("failed: ")


def test_what_a_crash_left_without_a_mark_counts_once(database: Database, tmp_path: Path) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 4)
    Follower(RunSource(database, run.uid), TensorBoardSink(tmp_path / "logs")).send()
    mark = next((tmp_path / "logs").glob("*/metafleet.json"))
    kept = mark.read_bytes()
    record_steps(database, run, 5, 9)
    Follower(RunSource(database, run.uid), TensorBoardSink(tmp_path / "logs")).send()
    mark.write_bytes(kept)  # as if it had been killed before it kept the mark
    record_steps(database, run, 10, 2_010)
    with database.session() as session:
        EvaluationRepository(session).upsert_many(run.id, [evaluation(2_005)])
    Follower(RunSource(database, run.uid), TensorBoardSink(tmp_path / "logs")).end()

    assert scalars(tmp_path / "logs", "meta_train/loss") == expected(1, 2_010)
    assert scalars(tmp_path / "logs", "meta_val/score") == [(2_005, 0.875)]


def test_a_sink_that_fails_does_not_stop_the_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 3)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TensorBoardSink, "send", fail)
    notices: list[str] = []
    target = f"tensorboard:{tmp_path}"
    with tracked_run(database, run.uid, [target], notices.append), database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.FINISHED)

    (notice,) = notices
    assert "gets no more of this run ([Errno 28] No space left on device)" in notice


def test_a_full_disk_ends_an_export_in_one_line(database: Database, tmp_path: Path) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 500)
    sent = Run(database, Settings.load({"METAFLEET_HOME": str(tmp_path)}), run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(ConfigError, match=r"cannot be written \(File too large\)"):
            sent.send_to(f"tensorboard:{tmp_path / 'logs'}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sent.send_to(f"tensorboard:{tmp_path / 'logs'}")

    found = dict(scalars(tmp_path / "logs", "meta_train/loss"))
    assert found == dict(expected(1, 500))


@pytest.mark.parametrize("target", ["tensorboard", "tensorboard:", "wanda:x", "/logs", 3, None])
def test_what_is_no_target_is_refused(target: object) -> None:
    with pytest.raises(ConfigError, match="expected tensorboard:FOLDER"):
        open_sink(target)


def test_without_the_library_the_extra_is_named(
    home: Path,
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("METAFLEET_TRACK", f"tensorboard:{tmp_path}")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)

    assert main(["submit", file, "--in-process"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'metafleet[tensorboard]'" in error and error.count("\n") == 1
