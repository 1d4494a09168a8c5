"""Observes a run without showing anything; notices go to the log."""

import logging

from metafleet.orchestrator.training.events import EvaluationDone, RunStarted, StepDone

log = logging.getLogger(__name__)


class SilentObserver:
    """An observer for runs that a program executes."""

    def on_start(self, event: RunStarted) -> None:
        """Do nothing."""

    def on_step(self, event: StepDone) -> None:
        """Do nothing."""

    def on_evaluation(self, event: EvaluationDone) -> None:
        """Do nothing."""

    def on_notice(self, text: str) -> None:
        """Log the notice."""
        log.info("%s", text)
