"""Shows a run's progress: a live bar on a terminal, a line every few seconds elsewhere."""

import sys
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

from metafleet.orchestrator.reporting.line_observer import (
    LineObserver,
    Smoothed,
    describe_evaluation,
)
from metafleet.orchestrator.training.events import EvaluationDone, Observer, RunStarted, StepDone


class BarObserver:
    """Shows a live bar with the recent figures; notices and evaluations scroll above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None, figures="")
        self._smoothed = Smoothed()

    def on_start(self, event: RunStarted) -> None:
        """Set up the bar for the run."""
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
    """Yield an observer that suits standard error; standard output is for results only."""
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
