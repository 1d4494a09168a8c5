"""A server's sweeps: takes them from the queue, and keeps a process for each that controls it."""

import logging
import time
from collections.abc import Callable
from typing import Final

from metafleet.contracts.connections import require_broker_url
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus, SweepRecord
from metafleet.db.repositories import SweepQueue, SweepRepository
from metafleet.orchestrator.service.answering import require_answer
from metafleet.orchestrator.service.run_process import RunProcess

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
_MOST_SWEEPS: Final = 4


class SweepDesk:
    """The sweeps of one server. The processes only control sweeps; trials are runs in the queue.

    So sweeps do not take the places of runs: a server that executes one run at a time can control a
    sweep and execute its trials.

    Args:
        database: an open database.
        settings: a function that loads the settings.
        owner: the server's name.
        report: receives a text for users and, at a beginning, the id of the process.
    """

    def __init__(
        self,
        database: Database,
        settings: Callable[[], Settings],
        owner: str,
        *,
        report: Callable[[str, int | None], None],
    ) -> None:
        self._database, self._settings = database, settings
        self._owner, self._report = owner, report
        self._at_work: list[tuple[SweepRecord, RunProcess]] = []
        self._look_at = 0.0

    def tick(self, *, may_take_over: bool) -> None:
        """Read the results of ended processes, and take a waiting sweep."""
        for sweep, process in list(self._at_work):
            how = process.ended()
            if how is not None:
                self._settle(sweep, how)
                self._at_work.remove((sweep, process))
        if time.monotonic() >= self._look_at and len(self._at_work) < _MOST_SWEEPS:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._take_next(may_take_over)

    def make_sure(self) -> None:
        """Give back each sweep that the database assigns to this server by a lost answer."""
        with self._database.session() as session:
            SweepQueue(session).give_others_back(
                owner=self._owner, at_work=[sweep.id for sweep, _ in self._at_work]
            )

    def terminate(self) -> None:
        """Ask all processes to give their sweeps back."""
        for _, process in self._at_work:
            process.terminate()

    def is_any_alive(self) -> bool:
        """Return whether a process has not ended."""
        return any(process.ended() is None for _, process in self._at_work)

    def kill(self) -> None:
        """Kill all processes."""
        for _, process in self._at_work:
            process.wait_or_kill(0.0)

    def _take_next(self, may_take_over: bool) -> None:
        with self._database.session(read_only=True) as session:
            if not SweepQueue(session).is_waiting(may_take_over=may_take_over):
                return
        settings = self._settings()
        require_answer(require_broker_url(settings))
        with self._database.session() as session:
            taken = SweepQueue(session).take(self._owner, may_take_over=may_take_over)
        if taken is None:
            return
        if taken.status is not RunStatus.RUNNING:
            self._report(f"sweep {taken.name} failed: {taken.error}", None)
            return
        try:
            process = RunProcess(settings)
        except OSError as error:
            with self._database.session() as session:
                SweepQueue(session).give_back(
                    taken.id, owner=self._owner, epoch=taken.epoch, error=str(error)
                )
            self._report(f"sweep {taken.name}: its process cannot be started: {error}", None)
            return
        self._at_work.append((taken, process))
        log_path = process.begin_sweep(taken)
        self._report(
            f"sweep {taken.name} begins or continues: epoch {taken.epoch}; log: {log_path}",
            process.pid,
        )

    def _settle(self, sweep: SweepRecord, how: str) -> None:
        """Read the result of a sweep; if its process recorded none, queue the sweep again."""
        with self._database.session() as session:
            now = SweepRepository(session).get(sweep.id)
            is_same = now.owner == self._owner and now.epoch == sweep.epoch
            if is_same and now.status is RunStatus.RUNNING:
                now = SweepQueue(session).note_death(
                    sweep.id,
                    owner=self._owner,
                    epoch=sweep.epoch,
                    reason=f"its process ended with {how}",
                )
        why = f": {now.error}" if now.error else ""
        where = f" by {now.owner}" if now.owner else ""
        self._report(f"sweep {now.name} is {now.status}{where}{why}", None)
