"""Runs one training step at a time, or several at once, with gradients of earlier states."""

import time
from collections.abc import Callable

from metafleet.contracts.tracing import begin_step, end_step
from metafleet.orchestrator.engine.step import Dispatcher, StepOutcome, StepRequest, Ticket
from metafleet.orchestrator.training.checkpoint import Checkpoint
from metafleet.params import MetaState


class StepPipeline:
    """Keeps as many steps open as the staleness allows, and finishes them in order.

    Version v is the state after step v. The gradient of step t is computed at version max(0, t - 1
    - ``staleness``), however fast the workers are. So the bits do not depend on the speed of the
    fleet. They are also the same if a run is resumed from a checkpoint.

    Args:
        dispatcher: executes steps.
        request: makes the request of a step, given the step's number and the state to start from.
        stream: name of the sequence of steps.
        staleness: number of steps that are open in addition to the one that is finished next, >= 0.
        last_step: the last step of the run.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: Callable[[int, MetaState], StepRequest],
        *,
        stream: str,
        staleness: int,
        last_step: int,
    ) -> None:
        self._stream = stream
        self._dispatcher, self._request = dispatcher, request
        self._staleness, self._last_step = staleness, last_step
        self._begun: dict[int, tuple[Ticket, float]] = {}
        self._ended_s = 0.0

    def finish_next(self, reached: Checkpoint) -> tuple[StepOutcome, float]:
        """Begin all steps that the staleness allows, and finish the step after ``reached``.

        Returns:
            The outcome of the step, and its duration in seconds. The duration begins at the end of
            the previous step. If this step was begun later than that, the duration begins at the
            start of this step.

        Raises:
            NumericsError, FleetError: for the same reasons as ``Dispatcher.finish``.
        """
        step = reached.progress.step + 1
        for ahead in range(step, min(step + self._staleness, self._last_step) + 1):
            if ahead not in self._begun:
                state = reached.version(max(0, ahead - 1 - self._staleness))
                began_s = time.monotonic()
                begin_step(self._stream, ahead)
                ticket = self._dispatcher.begin(self._request(ahead, state))
                self._begun[ahead] = ticket, began_s
        ticket, began_s = self._begun.pop(step)
        try:
            outcome = self._dispatcher.finish(ticket)
        except BaseException as error:
            end_step(self._stream, step, error=type(error).__name__)
            raise
        since_s, self._ended_s = max(began_s, self._ended_s), time.monotonic()
        return outcome, self._ended_s - since_s

    def close(self) -> None:
        """Drop the open steps."""
        for step, (ticket, _) in self._begun.items():
            self._dispatcher.drop(ticket)
            end_step(self._stream, step, error="dropped")
        self._begun.clear()
