"""What a watcher sees of a run."""

import io
import os
import sys

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from metafleet.orchestrator.cli.progress import BarObserver
from metafleet.orchestrator.reporting.figures import counted, speed
from metafleet.orchestrator.reporting.line_observer import (
    LineObserver,
    Smoothed,
    describe_evaluation,
)
from metafleet.orchestrator.training.events import EvaluationDone, RunStarted, StepDone


def step(number: int, *, loss: float = 0.5, accuracy: float | None = 0.75) -> StepDone:
    return StepDone(
        step=number,
        loss=loss,
        accuracy=accuracy,
        grad_norm=1.0,
        lr=1e-3,
        episodes=8,
        step_s=0.25,
        workers_alive=2,
        retries=0,
    )


EVALUATION = EvaluationDone(
    split="meta_val",
    label="trained",
    step=10,
    episodes=100,
    loss=0.25,
    loss_ci95=0.01,
    accuracy=0.9,
    accuracy_ci95=0.02,
    batch_norm="transductive",
    is_best=True,
)


def test_an_evaluation_is_one_line_with_its_interval_and_batch_norm() -> None:
    assert describe_evaluation(EVALUATION) == (
        "step 10: meta_val: accuracy 90.00 ± 2.00 %, loss 0.2500 ± 0.0100 "
        "(100 episodes, batch norm transductive, best so far)"
    )


def test_smoothing_starts_at_the_first_value_and_follows() -> None:
    smoothed = Smoothed()
    smoothed.add(step(1, loss=2.0))
    assert smoothed.describe(step(1, loss=2.0)).startswith("loss 2.0000, accuracy 75.0 %, 32 ")

    for number in range(2, 100):
        smoothed.add(step(number, loss=1.0))
    assert smoothed.describe(step(99)).startswith("loss 1.0000")


def test_regression_shows_no_accuracy() -> None:
    smoothed = Smoothed()
    smoothed.add(step(1, accuracy=None))

    assert smoothed.describe(step(1, accuracy=None)) == "loss 0.5000, 32 episodes/s, 2 workers"


def test_without_a_terminal_lines_come_now_and_then_and_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    observer = LineObserver()
    observer.on_start(RunStarted(run_id=3, name="tiny", first_step=0, n_steps=50))
    for number in range(1, 51):
        observer.on_step(step(number))
    observer.on_evaluation(EVALUATION)
    observer.on_notice("waiting for workers")

    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0] == "run 3 (tiny) begins: 50 outer steps"
    assert lines[1].startswith("step 1/50: loss 0.5000")
    assert lines[-3].startswith("step 50/50: ")
    assert lines[-1] == "waiting for workers"
    assert len(lines) < 20


def test_a_reader_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as unread:
        monkeypatch.setattr(sys, "stderr", unread)
        observer = LineObserver()
        observer.on_start(RunStarted(run_id=3, name="tiny", first_step=0, n_steps=1))
        observer.on_notice("unread")


def test_one_step_and_slow_steps_are_written_as_people_do() -> None:
    assert [counted(n, "outer step") for n in (0, 1, 2)] == [
        "0 outer steps",
        "1 outer step",
        "2 outer steps",
    ]
    assert [speed(v) for v in (0.8312, 1.0, 9.96, 119.7)] == [
        "0.83 episodes/s",
        "1.0 episodes/s",
        "10 episodes/s",
        "120 episodes/s",
    ]


def test_a_resumed_run_says_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    LineObserver().on_start(RunStarted(run_id=3, name="tiny", first_step=20, n_steps=50))

    assert capsys.readouterr().err == "run 3 (tiny) goes on after step 20 of 50\n"


def test_the_bar_moves_and_notices_scroll_above_it() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    columns = (TextColumn("{task.description} {task.completed} {task.fields[figures]}"),)
    with Progress(*columns, console=console) as progress:
        observer = BarObserver(progress)
        observer.on_start(RunStarted(run_id=3, name="tiny", first_step=4, n_steps=9))
        assert progress.tasks[0].completed == 4
        observer.on_step(step(5))
        observer.on_notice("worker [cpu1] died")
        observer.on_evaluation(EVALUATION)

        task = progress.tasks[0]
        assert (task.completed, task.total, task.description) == (5, 9, "run 3")
        assert task.fields["figures"].startswith("loss 0.5000")
    assert "worker [cpu1] died" in screen.getvalue()
    assert "90.00 ± 2.00 %" in screen.getvalue()
