"""Renews an attempt's lease while its job runs, so that a dead worker is noticed in seconds."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.ledger import JobLedger

log = logging.getLogger(__name__)


class Lease:
    """The lease of one attempt while its job runs."""

    def __init__(self, ledger: JobLedger, job: InnerLoopJob) -> None:
        self._ledger, self._job = ledger, job
        self.interval_s = job.lease_ms / 1000 / 4
        self._deadline_s = time.monotonic() + job.deadline_s
        self.is_unwanted = False
        """Whether the orchestrator no longer wants this attempt."""
        self.is_kept = True
        """Whether the lease is still renewed. Otherwise it expires."""

    def renew(self) -> None:
        """Renew the lease unless the deadline has passed: a hung job must look dead."""
        if time.monotonic() > self._deadline_s:
            log.error("%s passed its deadline of %.0f s", self._job.label, self._job.deadline_s)
            self.is_kept = False
            return
        try:
            self.is_unwanted = not self._ledger.renew()
            self.is_kept = not self.is_unwanted
        except redis.RedisError as error:  # the next renewal may succeed
            log.warning("%s cannot renew its lease: %s", self._job.label, error)


class LeaseKeeper:
    """A thread that renews the lease of this process's current job.

    Starting a thread takes as long as a small job. So the first job starts the thread, and all
    later jobs use the same thread.
    """

    def __init__(self) -> None:
        self._held: Lease | None = None
        self._has_work = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, ledger: JobLedger, job: InnerLoopJob) -> Iterator[Lease]:
        """Renew the lease of ``job`` until the block ends or the job's deadline passes."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
            self._thread.start()
        self._held = lease = Lease(ledger, job)
        self._has_work.set()
        try:
            yield lease
        finally:
            self._held = None

    def _beat(self) -> None:
        while self._has_work.wait():
            held = self._held
            if held is None or not held.is_kept:
                self._has_work.clear()
                if self._held is held:  # else a job began before the clear()
                    continue
                self._has_work.set()
                continue
            # a job that begins while we sleep for the previous one is renewed after two intervals
            # at the latest, which is half of its lease
            time.sleep(held.interval_s)
            if self._held is held:
                held.renew()
