"""The terms on which a process executes a run, and a watch that notices when they end."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from metafleet.db.records import RunStatus
from metafleet.errors import FencedError, MetafleetError
from metafleet.orchestrator.runs.process_name import process_name

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0


class CancelRequest(KeyboardInterrupt):
    """Raised by an observer of a run to cancel the run; the message is the reason.

    The run stops as after an interrupt: its last checkpoint is stored, and its status becomes
    ``cancelled``.
    """


@dataclass(frozen=True, slots=True)
class Tenure:
    """The terms on which a run is executed.

    Attributes:
        owner: name of the executing process, which is shown to users.
        epoch: the run's fencing epoch since the queue gave the run to this process's server. None
            if there is no server, because this process claims the run itself.
        after_interrupt: the status that the run gets after an interrupt.
        is_stopping: returns whether the run should stop. It is called while a step is open. The run
            can stop during a step, because the state after the previous step is complete and is
            stored.
    """

    owner: str = field(default_factory=process_name)
    epoch: int | None = None
    after_interrupt: RunStatus = RunStatus.INTERRUPTED
    is_stopping: Callable[[], bool] = lambda: False

    @property
    def is_granted(self) -> bool:
        """Return whether the database's queue granted the run to this process."""
        return self.epoch is not None


class EpochWatch:
    """A thread that checks every second whether this process still owns the run.

    A process that waits for workers or for a long step records no rows. Without this thread, the
    process would not notice during this time that the run was cancelled or taken over.

    Args:
        run_id: the run.
        is_ours: returns whether this process still owns the run according to the database.
    """

    def __init__(self, run_id: int, is_ours: Callable[[], bool]) -> None:
        self._run_id, self._is_ours = run_id, is_ours
        self._is_lost = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name=f"watch-{run_id}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; do not wait for a database that hangs."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def check(self) -> None:
        """Raise FencedError if the run is no longer ours; makes no query."""
        if self._is_lost.is_set():
            raise FencedError(
                f"run {self._run_id} was cancelled or taken over; this orchestrator stops"
            )

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            try:
                if not self._is_ours():
                    self._is_lost.set()
                    return
            except MetafleetError as error:  # unknown: the database may be back next time
                log.debug("run=%d epoch not seen: %s", self._run_id, error)
