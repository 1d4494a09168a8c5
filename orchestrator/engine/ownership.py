"""Owning a run: a lease in Redis that is renewed, and an epoch that fences out whoever had it."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from contracts.connections import Client, connect, redis_errors
from contracts.keys import RunKeys
from contracts.ledger import RunLedger
from contracts.presence import WorkerInfo
from metafleet.errors import BrokerUnavailableError, FencedError, FleetError, RunLeasedError
from orchestrator.engine.roll_call import RollCall

log = logging.getLogger(__name__)

RUN_LEASE_MS: Final = 10_000
_BEAT_S: Final = 2.0


class Ownership:
    """One orchestrator's hold on one run.

    A thread renews the lease and counts workers every two seconds, so that a long outer update or a
    slow database does not cost the run.

    Args:
        url: the broker.
        run: the run's uid.
        queues: the Celery queues whose workers are counted.
        signing_key: that of those workers.
        next_epoch: raises the run's epoch in the database and returns it.
        is_granted: the database decides whose the run is, so nobody's lease is waited for.
    """

    def __init__(
        self,
        url: str,
        run: str,
        *,
        queues: Sequence[str],
        signing_key: str,
        next_epoch: Callable[[], int],
        is_granted: bool = False,
    ) -> None:
        self._url, self._run, self._queues = url, run, tuple(queues)
        self._is_granted = is_granted
        self._next_epoch = next_epoch
        self._client: Client = connect(url)
        owner = f"{socket.gethostname()}:{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._ledger = RunLedger(self._client, run, owner)
        self._epoch = -1
        self._failure: FleetError | None = None
        self._is_lost = False
        self._roll_call = RollCall(self._client, self._queues, signing_key=signing_key)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run-lease", daemon=True)

    @property
    def ledger(self) -> RunLedger:
        """The run's ledger."""
        return self._ledger

    @property
    def epoch(self) -> int:
        """The epoch under which this orchestrator sends jobs."""
        return self._epoch

    @property
    def workers_alive(self) -> int:
        """Workers that listened to a queue at the last look, at most two seconds ago."""
        return len(self._roll_call.workers)

    def alive_by_queue(self) -> dict[str, int]:
        """Count those workers by queue."""
        return {queue: len(self._on(queue)) for queue in self._queues}

    def processes_on(self, queue: str) -> int:
        """Jobs that the workers of one queue can compute at a time."""
        return sum(worker.processes for worker in self._on(queue))

    @property
    def is_lost(self) -> bool:
        """True when another orchestrator was found to have taken the run over."""
        return self._is_lost

    @property
    def strangers(self) -> tuple[tuple[WorkerInfo, str], ...]:
        """Living workers that take none of this run's jobs, and why."""
        return self._roll_call.strangers

    @property
    def processes_alive(self) -> int:
        """Jobs that those workers can compute at a time."""
        return sum(worker.processes for worker in self._roll_call.workers)

    @property
    def hosts(self) -> frozenset[str]:
        """Whose memory those workers share; "" stands for those who share none."""
        return frozenset(worker.host_id for worker in self._roll_call.workers)

    def take(self) -> None:
        """Claim the run and begin a new epoch.

        Raises:
            RunLeasedError: another orchestrator owns it.
            FencedError: another took it over meanwhile.
            BrokerUnavailableError: Redis cannot be reached.
        """
        with redis_errors(self._url):
            if self._is_granted:
                self._epoch = self._next_epoch()
                claim = self._ledger.seize(self._epoch, lease_ms=RUN_LEASE_MS)
            else:
                claim = self._ledger.claim(lease_ms=RUN_LEASE_MS)
                if claim.status == "ok":
                    # known before it is told: an answer lost on the way must not fence us out
                    self._epoch = self._next_epoch()
                    claim = self._ledger.take_over(self._epoch, lease_ms=RUN_LEASE_MS)
        if claim.status == "held":
            raise RunLeasedError(
                f"run {self._run} is being run by {claim.holder.split('/')[0]}; stop that one, or "
                f"wait {claim.remaining_ms / 1000:.0f} s after it dies for its lease to end"
            )
        if claim.status == "fenced":
            raise FencedError(f"run {self._run} was taken over by another orchestrator; stopping")
        if not self._thread.is_alive():
            with redis_errors(self._url):
                self._roll_call.look()
            self._thread.start()

    def check(self) -> bool:
        """Tell whether Redis still knows of our epoch; False when it came back empty.

        Raises:
            FencedError: another orchestrator has taken the run over.
        """
        if self._failure is not None:
            raise self._failure
        with redis_errors(self._url):
            found = self._client.get(RunKeys(self._run).epoch)
        if found is None:
            return False
        if found != str(self._epoch).encode():
            self._is_lost = True
            raise FencedError(f"run {self._run} was taken over by another orchestrator; stopping")
        return True

    def release(self) -> None:
        """Give the run up, so that another can take it at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            with redis_errors(self._url):
                self._ledger.release()
        except BrokerUnavailableError as error:
            log.warning("the lease of run %s will have to run out: %s", self._run, error)

    def _on(self, queue: str) -> list[WorkerInfo]:
        return [worker for worker in self._roll_call.workers if queue in worker.queues]

    def _beat(self) -> None:
        is_away = False
        while not self._ended.wait(_BEAT_S):
            try:
                with redis_errors(self._url):
                    self._ledger.renew(self._epoch, lease_ms=RUN_LEASE_MS)
                    self._roll_call.look()
                is_away = False
            except BrokerUnavailableError as error:
                if not is_away:
                    log.warning("run=%s lease not renewed: %s", self._run, error)
                is_away = True
            except Exception as error:  # the lease will lapse: whoever works must hear of it
                log.exception("run=%s lease", self._run)
                self._failure = FleetError(f"the lease of run {self._run} is not kept: {error}")
                return
