"""Reports a run with a line every few seconds, for logs and pipes."""

import time

from metafleet.orchestrator.reporting.figures import counted, percent, plus_minus, speed
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.training.events import EvaluationDone, RunStarted, StepDone

_LINE_EVERY_S = 5.0
_SMOOTHING = 0.9


class Smoothed:
    """Exponential means of a run's recent figures, corrected for their start."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._degraded = 0
        self._sums = {"loss": 0.0, "accuracy": 0.0, "episodes": 0.0, "seconds": 0.0}

    def add(self, event: StepDone) -> None:
        """Add one outer step."""
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
        """Format the figures after ``event``."""
        parts = [f"loss {self._sums['loss'] / self._weight:.4f}"]
        if event.accuracy is not None:
            parts.append(f"{event.metric} {100 * self._sums['accuracy'] / self._weight:.1f} %")
        if self._sums["seconds"] > 0:
            parts.append(speed(self._sums["episodes"] / self._sums["seconds"]))
        parts.append(counted(event.workers_alive, "worker"))
        if self._degraded:
            parts.append(counted(self._degraded, "degraded step"))
        return ", ".join(parts)


def describe_evaluation(event: EvaluationDone) -> str:
    """Format an evaluation as one line."""
    judged = "" if event.label == "trained" else f" of {event.label}"
    figures = [f"loss {plus_minus(event.loss, event.loss_ci95)}"]
    if event.accuracy is not None:
        figures.insert(0, f"{event.metric} {percent(event.accuracy, event.accuracy_ci95)}")
    best = ", best so far" if event.is_best else ""
    return (
        f"step {event.step}: {event.split}{judged}: {', '.join(figures)} "
        f"({event.episodes} episodes, batch norm {event.batch_norm}{best})"
    )


class LineObserver:
    """Writes a line every few seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._smoothed = Smoothed()
        self._n_steps = 0
        self._last_line_at = float("-inf")

    def on_start(self, event: RunStarted) -> None:
        """Write which run begins."""
        self._n_steps = event.n_steps
        self._write(_describe_start(event))

    def on_step(self, event: StepDone) -> None:
        """Write a line every few seconds, and for the last step."""
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


def _describe_start(event: RunStarted) -> str:
    if event.first_step:
        return (
            f"run {event.run_id} ({event.name}) goes on after step "
            f"{event.first_step} of {event.n_steps}"
        )
    return f"run {event.run_id} ({event.name}) begins: {counted(event.n_steps, 'outer step')}"
