"""Watching a run: a live bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from metafleet.orchestrator.cli.figures import counted, percent, plus_minus, speed
from metafleet.orchestrator.cli.output import notify
from metafleet.orchestrator.training.events import EvaluationDone, Observer, RunStarted, StepDone

_LINE_EVERY_S = 5.0
_SMOOTHING = 0.9


class Smoothed:
    """The recent course of a run: exponential means, corrected for their start."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._degraded = 0
        self._sums = {"loss": 0.0, "accuracy": 0.0, "episodes": 0.0, "seconds": 0.0}

    def add(self, event: StepDone) -> None:
        """Take one outer step in."""
        self._degraded += bool(event.missing_shards)
        values = {
            "loss": event.loss,
            "accuracy": event.accuracy or 0.0,
            "episodes": float(event.episodes),
            "seconds": event.step_s,
        }
        self._weight = _SMOOTHING * self._weight + (1 - _SMOOTHING)
        for name, value in values.items():
            self._sums[name] = _SMOOTHING * self._sums[name] + (1 - _SMOOTHING) * value

    def describe(self, event: StepDone) -> str:
        """Write the figures after ``event``."""
        parts = [f"loss {self._sums['loss'] / self._weight:.4f}"]
        if event.accuracy is not None:
            parts.append(f"accuracy {100 * self._sums['accuracy'] / self._weight:.1f} %")
        if self._sums["seconds"] > 0:
            parts.append(speed(self._sums["episodes"] / self._sums["seconds"]))
        parts.append(counted(event.workers_alive, "worker"))
        if self._degraded:
            parts.append(counted(self._degraded, "degraded step"))
        return ", ".join(parts)


def describe_evaluation(event: EvaluationDone) -> str:
    """Write one evaluation on one line."""
    judged = "" if event.label == "trained" else f" of {event.label}"
    figures = [f"loss {plus_minus(event.loss, event.loss_ci95)}"]
    if event.accuracy is not None:
        figures.insert(0, f"accuracy {percent(event.accuracy, event.accuracy_ci95)}")
    best = ", best so far" if event.is_best else ""
    return (
        f"step {event.step}: {event.split}{judged}: {', '.join(figures)} "
        f"({event.episodes} episodes, batch norm {event.batch_norm}{best})"
    )


class LineObserver:
    """Writes a line every few seconds: for logs, pipes and people without a terminal."""

    def __init__(self) -> None:
        self._smoothed = Smoothed()
        self._n_steps = 0
        self._last_line_at = float("-inf")

    def on_start(self, event: RunStarted) -> None:
        """Say which run begins."""
        self._n_steps = event.n_steps
        self._write(_describe_start(event))

    def on_step(self, event: StepDone) -> None:
        """Write a line when the last one is old, and for the last step."""
        self._smoothed.add(event)
        is_due = time.monotonic() - self._last_line_at >= _LINE_EVERY_S
        if is_due or event.step == self._n_steps:
            self._last_line_at = time.monotonic()
            self._write(f"step {event.step}/{self._n_steps}: {self._smoothed.describe(event)}")

    def on_evaluation(self, event: EvaluationDone) -> None:
        """Write the evaluation."""
        self._write(describe_evaluation(event))

    def on_notice(self, text: str) -> None:
        """Write the notice."""
        self._write(text)

    def _write(self, text: str) -> None:
        notify(text)


class BarObserver:
    """Shows a live bar with the recent figures; notices and evaluations scroll above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None, figures="")
        self._smoothed = Smoothed()

    def on_start(self, event: RunStarted) -> None:
        """Set the bar up for the run."""
        self._progress.update(
            self._task,
            description=f"run {event.run_id}",
            total=event.n_steps,
            completed=event.first_step,
        )
        self._smoothed = Smoothed()

    def on_step(self, event: StepDone) -> None:
        """Move the bar."""
        self._smoothed.add(event)
        figures = self._smoothed.describe(event)
        self._progress.update(self._task, completed=event.step, figures=figures)

    def on_evaluation(self, event: EvaluationDone) -> None:
        """Print the evaluation above the bar."""
        self._progress.console.print(describe_evaluation(event), highlight=False)

    def on_notice(self, text: str) -> None:
        """Print the notice above the bar."""
        self._progress.console.print(text, style="yellow", highlight=False, markup=False)


@contextmanager
def watching(*, has_steps: bool = True) -> Iterator[Observer]:
    """Give an observer that suits standard error; results have standard output to themselves."""
    if not sys.stderr.isatty() or not has_steps:
        yield LineObserver()
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
        yield BarObserver(progress)


def _describe_start(event: RunStarted) -> str:
    if event.first_step:
        return (
            f"run {event.run_id} ({event.name}) goes on after step "
            f"{event.first_step} of {event.n_steps}"
        )
    return f"run {event.run_id} ({event.name}) begins: {counted(event.n_steps, 'outer step')}"
