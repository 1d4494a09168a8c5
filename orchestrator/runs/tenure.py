"""On what terms a process executes a run, and noticing that it may not any more."""

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


@dataclass(frozen=True, slots=True)
class Tenure:
    """On what terms a run is executed.

    Attributes:
        owner: who executes it, as people will see it.
        epoch: the epoch at which the queue gave the run to this process's server; None when the
            process, attached, takes the run by itself.
        after_interrupt: what the run becomes when it is interrupted.
        is_stopping: asked while a step is open, where an interrupt costs nothing: the state is
            whole, and is stored.
    """

    owner: str = field(default_factory=process_name)
    epoch: int | None = None
    after_interrupt: RunStatus = RunStatus.INTERRUPTED
    is_stopping: Callable[[], bool] = lambda: False

    @property
    def is_granted(self) -> bool:
        """Claim that the database's queue decided who executes the run."""
        return self.epoch is not None


class EpochWatch:
    """A thread that asks every second whether the run is still ours.

    A training that waits for workers, or for a long step, records nothing, so it would not find out
    by its next row that the run was cancelled or taken over.

    Args:
        run_id: the run.
        is_ours: asks the database.
    """

    def __init__(self, run_id: int, is_ours: Callable[[], bool]) -> None:
        self._run_id, self._is_ours = run_id, is_ours
        self._is_lost = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name=f"watch-{run_id}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; does not wait for a database that hangs."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def check(self) -> None:
        """Raise FencedError when the run was seen to be ours no more; costs nothing."""
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
            except MetafleetError as error:  # no news: the database may be back next time
                log.debug("run=%d epoch not seen: %s", self._run_id, error)
