"""A script's training in trackers: complete, each step once, whatever happens."""

import json
import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError
from metafleet.script.journal import Journal
from metafleet.script.outer_step import OuterStep
from metafleet.tracking.records import Mark, Row, TrackedRun


def episodes(n: int = 2) -> list[Any]:
    return [tuple(torch.randn(4, 3 if part % 2 == 0 else 1) for part in range(4)) for _ in range(n)]


def learner() -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(nn.Linear(3, 1), "maml", inner_lr=0.01, inner_steps=1)


def lines(folder: Path, table: str) -> list[dict[str, Any]]:
    (place,) = folder.iterdir()
    return [json.loads(line) for line in (place / f"{table}.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Any]:
    (place,) = folder.iterdir()
    found: dict[str, Any] = json.loads((place / "run.json").read_text())
    return found


def test_steps_evaluations_and_files_are_sent(tmp_path: Path) -> None:
    meta = learner()
    meta.optimize(episodes())  # before the block
    with meta.tracked(f"jsonl:{tmp_path / 'logs'}", name="sine"):
        reports = [meta.optimize(episodes()) for _ in range(3)]
        judged = meta.evaluate(episodes(5), split="meta_val")
        meta.save(tmp_path / "sine.safetensors")
    meta.optimize(episodes())  # after it

    sent = lines(tmp_path / "logs", "steps")
    assert [(one["step"], one["loss"]) for one in sent] == [(r.step, r.loss) for r in reports]
    assert {one["lr"] for one in sent} == {1e-3}
    (evaluation,) = lines(tmp_path / "logs", "evaluations")
    assert (evaluation["split"], evaluation["loss"]) == ("meta_val", judged.loss)
    (file,) = lines(tmp_path / "logs", "checkpoints")
    assert file["size_bytes"] == (tmp_path / "sine.safetensors").stat().st_size
    assert state(tmp_path / "logs")["status"] == "finished"
    assert state(tmp_path / "logs")["config"]["learner"]["inner_lr"] == 0.01


def test_a_training_loop_is_sent(tmp_path: Path) -> None:
    meta = learner()
    with meta.tracked(f"jsonl:{tmp_path / 'logs'}"):
        for _ in range(5):
            meta.optimize(meta(torch.randn(4, 3)).square().mean())
        meta.next_task(finish=True)

    assert [one["step"] for one in lines(tmp_path / "logs", "steps")] == [1, 2, 3]


def test_a_script_that_failed_and_goes_on_sends_only_what_is_missing(tmp_path: Path) -> None:
    meta, target = learner(), f"jsonl:{tmp_path / 'logs'}"
    with pytest.raises(RuntimeError), meta.tracked(target, name="sine") as uid:
        meta.optimize(episodes())
        meta.save(tmp_path / "sine.safetensors")
        meta.optimize(episodes())
        raise RuntimeError("out of\nluck")
    assert (state(tmp_path / "logs")["status"], state(tmp_path / "logs")["error"]) == (
        "failed",
        "out of luck",
    )

    again = learner()
    again.bind(episodes()[0][:2])
    again.load(tmp_path / "sine.safetensors")
    with again.tracked(target, name="sine", uid=uid):
        for _ in range(3):
            again.optimize(episodes())
    assert [one["step"] for one in lines(tmp_path / "logs", "steps")] == [1, 2, 3, 4]
    assert state(tmp_path / "logs")["status"] == "finished"


class Broken:
    """A sink of the user's own that fails."""

    def open(self, run: TrackedRun) -> Mark:
        return Mark()

    def send(self, rows: Sequence[Row], mark: Mark) -> None:
        raise OSError("no room")

    def end(self, run: TrackedRun) -> None:
        raise AssertionError

    def close(self) -> None:
        self.is_closed = True


def test_a_tracker_that_fails_does_not_stop_the_training(caplog: pytest.LogCaptureFixture) -> None:
    meta, broken = learner(), Broken()
    with caplog.at_level(logging.WARNING), meta.tracked(broken):
        meta.optimize(episodes())

    assert meta.step == 1 and broken.is_closed
    (record,) = caplog.records
    assert "gets no more of this run (no room); the training goes on" in record.getMessage()


def test_rows_can_be_read_while_others_are_added() -> None:
    begun = TrackedRun(
        uid="u",
        name="n",
        experiment="n",
        seed=0,
        config={},
        status="running",
        started_at=datetime.now(UTC),
    )
    journal = Journal(begun)
    feed = journal.feed()

    def add() -> None:
        for step in range(1, 20_001):
            journal.add_step(OuterStep(step, 0.0, None, 0.0, ()), 0.1)

    thread = threading.Thread(target=add)
    thread.start()
    mark, received = Mark(), list[int]()
    while thread.is_alive() or feed.waiting:
        rows = feed.rows(mark)
        mark = mark.plus(rows)
        received += [row.step for row in rows]
    thread.join()

    assert received == list(range(1, 20_001))


@pytest.mark.parametrize(
    ("targets", "named", "message"),
    [
        ((), {}, "no target given"),
        (("logs",), {}, "expected tensorboard:FOLDER, mlflow:URI, wandb:PROJECT"),
        (("jsonl:logs",), {"name": "a/b"}, "name='a/b'; expected letters"),
        (("jsonl:logs",), {"uid": ""}, "uid=''; expected letters"),
    ],
)
def test_wrong_choices_are_refused(
    targets: tuple[str, ...], named: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message), learner().tracked(*targets, **named):
        raise AssertionError("not reached")
