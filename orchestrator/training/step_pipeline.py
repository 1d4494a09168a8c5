"""Training steps on their way: one, or several with gradients of earlier versions of the state."""

import time
from collections.abc import Callable

from metafleet.orchestrator.engine.step import Dispatcher, StepOutcome, StepRequest, Ticket
from metafleet.orchestrator.training.checkpoint import Checkpoint
from metafleet.params import MetaState


class StepPipeline:
    """Keeps as many steps open as the staleness allows, and finishes them in order.

    With version v the state after step v, the gradient of step t is taken at version
    max(0, t - 1 - ``staleness``): a property of the arithmetic, never of who was faster. So any
    fleet computes the same bits, and so does a run that goes on from a checkpoint.

    Args:
        dispatcher: gets steps done.
        request: describes a step, by its number and the state it starts from.
        staleness: how many steps are open beside the one that is finished next, >= 0.
        last_step: the last step there is.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: Callable[[int, MetaState], StepRequest],
        *,
        staleness: int,
        last_step: int,
    ) -> None:
        self._dispatcher, self._request = dispatcher, request
        self._staleness, self._last_step = staleness, last_step
        self._begun: dict[int, tuple[Ticket, float]] = {}
        self._ended_s = 0.0

    def finish_next(self, reached: Checkpoint) -> tuple[StepOutcome, float]:
        """Finish the step after ``reached``, having begun those that may be open beside it.

        Returns:
            what came out, and the seconds that this step took beyond the one before.

        Raises:
            NumericsError, FleetError: as ``Dispatcher.finish`` does.
        """
        step = reached.progress.step + 1
        for ahead in range(step, min(step + self._staleness, self._last_step) + 1):
            if ahead not in self._begun:
                state = reached.version(max(0, ahead - 1 - self._staleness))
                began_s = time.monotonic()
                ticket = self._dispatcher.begin(self._request(ahead, state))
                self._begun[ahead] = ticket, began_s
        ticket, began_s = self._begun.pop(step)
        outcome = self._dispatcher.finish(ticket)
        since_s, self._ended_s = max(began_s, self._ended_s), time.monotonic()
        return outcome, self._ended_s - since_s

    def close(self) -> None:
        """Give up the steps that are open."""
        for ticket, _ in self._begun.values():
            self._dispatcher.drop(ticket)
        self._begun.clear()
