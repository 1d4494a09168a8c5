"""Owning a run: a lease in Redis that is renewed, and an epoch that fences out whoever had it."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Final

from contracts.connections import Client, connect, redis_errors
from contracts.keys import RunKeys
from contracts.ledger import RunLedger
from contracts.presence import list_alive
from metafleet.errors import BrokerUnavailableError, FencedError, RunLeasedError

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
        queue: the Celery queue whose workers are counted.
        next_epoch: raises the run's epoch in the database and returns it.
    """

    def __init__(self, url: str, run: str, *, queue: str, next_epoch: Callable[[], int]) -> None:
        self._url, self._run, self._queue = url, run, queue
        self._next_epoch = next_epoch
        self._client: Client = connect(url)
        owner = f"{socket.gethostname()}:{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._ledger = RunLedger(self._client, run, owner)
        self._epoch = -1
        self._workers_alive = 0
        self._hosts: frozenset[str] = frozenset()
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
        """Workers that listened to the queue at the last look, at most two seconds ago."""
        return self._workers_alive

    @property
    def hosts(self) -> frozenset[str]:
        """Whose memory those workers share; "" stands for those who share none."""
        return self._hosts

    def take(self) -> None:
        """Claim the run and begin a new epoch.

        Raises:
            RunLeasedError: another orchestrator owns it.
            FencedError: another took it over meanwhile.
            BrokerUnavailableError: Redis cannot be reached.
        """
        with redis_errors(self._url):
            claim = self._ledger.claim(lease_ms=RUN_LEASE_MS)
            if claim.status == "ok":
                epoch = self._next_epoch()
                claim = self._ledger.take_over(epoch, lease_ms=RUN_LEASE_MS)
        if claim.status == "held":
            raise RunLeasedError(
                f"run {self._run} is being run by {claim.holder.split('/')[0]}; stop that one, or "
                f"wait {claim.remaining_ms / 1000:.0f} s after it dies for its lease to end"
            )
        if claim.status == "fenced":
            raise FencedError(f"run {self._run} was taken over by another orchestrator; stopping")
        self._epoch = epoch
        if not self._thread.is_alive():
            self._look()
            self._thread.start()

    def check(self) -> bool:
        """Tell whether Redis still knows of our epoch; False when it came back empty.

        Raises:
            FencedError: another orchestrator has taken the run over.
        """
        with redis_errors(self._url):
            found = self._client.get(RunKeys(self._run).epoch)
        if found is None:
            return False
        if int(str(found, "ascii") if isinstance(found, bytes) else found) != self._epoch:
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

    def _look(self) -> None:
        workers = list_alive(self._client, self._queue)
        self._workers_alive = len(workers)
        self._hosts = frozenset(worker.host_id for worker in workers)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            try:
                with redis_errors(self._url):
                    self._ledger.renew(self._epoch, lease_ms=RUN_LEASE_MS)
                    self._look()
            except BrokerUnavailableError as error:
                log.warning("cannot renew the lease of run %s: %s", self._run, error)
