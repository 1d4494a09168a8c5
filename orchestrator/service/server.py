"""A server: executes runs and sweeps from the queue, and takes over those of dead servers."""

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from metafleet.contracts.connections import require_broker_url
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunQueue, RunRepository, ServerRepository, SweepQueue
from metafleet.db.repositories.servers import ALIVE_WITHIN_S, BEAT_EVERY_S
from metafleet.errors import BrokerUnavailableError, DatabaseUnavailableError, MetafleetError
from metafleet.orchestrator.runs.process_name import process_name
from metafleet.orchestrator.service.answering import require_answer
from metafleet.orchestrator.service.run_process import RunProcess
from metafleet.orchestrator.service.sweep_desk import SweepDesk

log = logging.getLogger(__name__)

_TICK_S: Final = 0.25
_LOOK_EVERY_S: Final = 1.0
_WARM_UP_EVERY_S: Final = 5.0
_STOP_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event for users.

    Attributes:
        kind: serving, began, took_over, finished, failed, cancelled, queued, interrupted, lost,
            waiting, stopping or stopped; or sweep, for all events about sweeps.
        text: readable description.
        run: the run that the event is about; None for an event about the server.
        pid: in an event about the beginning of a run or sweep, the id of the process that executes
            the run or controls the sweep.
    """

    kind: str
    text: str
    run: RunRecord | None = None
    pid: int | None = None


class Server:
    """One server. It has only one thread, because its child processes are made to die with it.

    Args:
        database: an open database.
        settings: a function that loads the settings. It is called for each run, because an embedded
            stack may have been restarted with other settings.
        max_runs: maximum number of runs executed at a time, >= 1.
        report: receives the events.
    """

    def __init__(
        self,
        database: Database,
        settings: Callable[[], Settings],
        *,
        max_runs: int,
        report: Callable[[ServerEvent], None],
    ) -> None:
        self._database, self._settings, self._report = database, settings, report
        self._max_runs = max_runs
        self.name = process_name()
        self._processes: list[RunProcess] = []
        self._sweeps = SweepDesk(database, settings, self.name, report=self._tell_of_sweep)
        self._standby: RunProcess | None = None
        self._beat_at = self._look_at = self._warm_up_at = 0.0
        # time since which the database has answered without interruption
        self._steady_since = time.monotonic()
        self._trouble = ""
        self._is_sure = True

    def run(self) -> None:
        """Execute runs until interrupted; then give unfinished runs back to the queue.

        Raises:
            DatabaseError: the database failed permanently.
        """
        self._beat()
        self._tell("serving", f"serving up to {self._max_runs} runs at a time as {self.name}")
        try:
            while True:
                self._tick()
                time.sleep(_TICK_S)
        finally:
            self._stop()

    def _tick(self) -> None:
        now_s = time.monotonic()
        try:
            if now_s >= self._beat_at:
                self._beat()
            self._make_sure()
            self._reap()
            self._warm_up()
            if now_s >= self._look_at and len(self._processes) < self._max_runs:
                # look again at once after taking a run: there may be more
                self._look_at = 0.0 if self._take_next() else now_s + _LOOK_EVERY_S
            self._sweeps.tick(may_take_over=self._may_take_over)
        except DatabaseUnavailableError as error:
            self._steady_since = time.monotonic()
            self._is_sure = False
            self._beat_at = self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._wait_out(error)
        except BrokerUnavailableError as error:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._wait_out(error)
        else:
            self._note_well()

    def _beat(self) -> None:
        host, pid = socket.gethostname(), os.getpid()
        with self._database.session() as session:
            ServerRepository(session).beat(self.name, host=host, pid=pid, max_runs=self._max_runs)
        self._beat_at = time.monotonic() + BEAT_EVERY_S

    def _make_sure(self) -> None:
        """Give back each run that the database assigns to this server and that it does not execute.

        Race prevented: this server takes a run, and the connection breaks before the database's
        answer arrives. As long as this server lives, no other server would take the run.
        """
        if not self._is_sure:
            at_work = [process.run.id for process in self._processes]
            with self._database.session() as session:
                RunQueue(session).give_others_back(owner=self.name, at_work=at_work)
            self._sweeps.make_sure()
            self._is_sure = True

    def _beat_quietly(self) -> None:
        try:
            if time.monotonic() >= self._beat_at:
                self._beat()
        except MetafleetError as error:
            log.warning("heartbeat failed: %s", error)

    @property
    def _may_take_over(self) -> bool:
        # after an outage, other servers look dead too: they may have been cut off as well
        return time.monotonic() - self._steady_since > ALIVE_WITHIN_S

    def _take_next(self) -> bool:
        may_take_over = self._may_take_over
        with self._database.session(read_only=True) as session:
            if not RunQueue(session).is_waiting(may_take_over=may_take_over):
                return False
        settings = self._settings()
        self._beat()  # a hung Redis must not make us look dead
        require_answer(require_broker_url(settings))
        with self._database.session() as session:
            taken = RunQueue(session).take(self.name, may_take_over=may_take_over)
        if taken is None:
            return False
        if taken.run.status is not RunStatus.RUNNING:
            self._tell("failed", f"{taken.run.error}", taken.run)
            return True
        self._begin(taken.run, settings, taken.predecessor)
        return True

    def _begin(self, run: RunRecord, settings: Settings, predecessor: str | None) -> None:
        try:
            process = self._ready_process(settings)
        except OSError as error:
            with self._database.session() as session:
                RunQueue(session).note_death(run.id, owner=self.name, reason=str(error))
            self._tell("queued", f"its process cannot be started: {error}", run)
            return
        self._processes.append(process)
        process.begin(run)
        at = f"epoch {run.epoch}, after step {run.steps_done} of {run.n_steps}"
        if predecessor is None:
            event = ServerEvent("began", f"begins: {at}; log: {process.log_path}", run, process.pid)
        else:
            text = f"taken over from {predecessor}, which died: {at}; log: {process.log_path}"
            event = ServerEvent("took_over", text, run, process.pid)
        self._report(event)

    def _warm_up(self) -> None:
        """Keep a standby process while there is room for one more run."""
        is_due = time.monotonic() >= self._warm_up_at
        if self._standby is None and is_due and len(self._processes) < self._max_runs:
            self._warm_up_at = time.monotonic() + _WARM_UP_EVERY_S
            try:
                self._standby = RunProcess(self._settings())
            except OSError as error:
                log.warning("no process could be started: %s", error)

    def _ready_process(self, settings: Settings) -> RunProcess:
        """Return the standby process if it is alive with current settings, else a new one."""
        ready, self._standby = self._standby, None
        if ready is not None and (ready.ended() is not None or ready.settings != settings):
            ready.wait_or_kill(0.0)
            ready = None
        return ready or RunProcess(settings)

    def _reap(self) -> None:
        for process in list(self._processes):
            how = process.ended()
            if how is not None:
                self._settle(process, how)
                self._processes.remove(process)
                self._look_at = 0.0

    def _settle(self, process: RunProcess, how: str) -> None:
        """Read the result of a run; if its process recorded none, queue the run again."""
        with self._database.session() as session:
            run = RunRepository(session).get(process.run.id)
            is_silent = run.owner == self.name and run.status is RunStatus.RUNNING
            if is_silent:
                reason = f"its process ended with {how}; log: {process.log_path}"
                run = RunQueue(session).note_death(run.id, owner=self.name, reason=reason)
        if run.status is RunStatus.RUNNING:
            self._tell("lost", f"continues on another server: {run.owner}", run)
        elif run.status is RunStatus.FINISHED:
            self._tell("finished", f"finished: sha256 {run.checkpoint_sha256}", run)
        elif run.status is RunStatus.QUEUED:
            self._tell("queued", f"is back in the queue: {run.error or 'interrupted'}", run)
        else:
            why = f": {run.error}" if run.error else ""
            self._tell(str(run.status), f"{run.status}{why}", run)

    def _stop(self) -> None:
        """Let every run write a checkpoint, and give it back to the queue.

        A second signal ends the runs without a checkpoint. The steps since the last checkpoint are
        then lost.
        """
        self._tell("stopping", f"stopping: {len(self._processes)} runs go back to the queue")
        try:
            for process in self._processes:
                process.terminate()
            self._sweeps.terminate()
            deadline = time.monotonic() + _STOP_WITHIN_S
            while time.monotonic() < deadline and self._is_any_alive():
                self._beat_quietly()  # otherwise other servers would consider this one dead
                time.sleep(_TICK_S)
        finally:
            for process in [*self._processes, *([self._standby] if self._standby else [])]:
                process.wait_or_kill(0.0)
            self._sweeps.kill()
            self._give_back()
        self._tell("stopped", "stopped")

    def _is_any_alive(self) -> bool:
        return any(p.ended() is None for p in self._processes) or self._sweeps.is_any_alive()

    def _give_back(self) -> None:
        try:
            with self._database.session() as session:
                RunQueue(session).give_all_back(owner=self.name)
                SweepQueue(session).give_others_back(owner=self.name)
                ServerRepository(session).remove(self.name)
            for process in self._processes:
                self._settle(process, "an interrupt")
        except MetafleetError as error:
            self._tell("waiting", f"other servers find the runs when this one is silent: {error}")

    def _wait_out(self, error: MetafleetError) -> None:
        if not self._trouble:
            self._tell("waiting", f"{error}; waiting for it to come back")
        self._trouble = str(error)

    def _note_well(self) -> None:
        if self._trouble:
            self._tell("serving", "it is back; continuing")
            self._trouble = ""

    def _tell_of_sweep(self, text: str, pid: int | None) -> None:
        self._report(ServerEvent("sweep", text, pid=pid))

    def _tell(self, kind: str, text: str, run: RunRecord | None = None) -> None:
        self._report(ServerEvent(kind, text, run))
