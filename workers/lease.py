"""Renews an attempt's lease while its job runs, so that a dead worker is noticed in seconds."""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.ledger import JobLedger
from metafleet.contracts.logs import job_context

log = logging.getLogger(__name__)


class Lease:
    """The lease of one attempt while its job runs.

    Args:
        ledger: the ledger of the attempt.
        job: the job, which the current thread computes.
        on_beat: called after each renewal, and when the deadline has passed.
    """

    def __init__(self, ledger: JobLedger, job: InnerLoopJob, on_beat: Callable[[], None]) -> None:
        self._ledger, self._job, self._on_beat = ledger, job, on_beat
        self._thread = threading.get_ident()
        self.interval_s = job.lease_ms / 1000 / 4
        self._deadline_s = time.monotonic() + job.deadline_s
        self.is_unwanted = False
        """Whether the orchestrator no longer wants this attempt."""
        self.is_kept = True
        """Whether the lease is still renewed. Otherwise it expires."""

    def renew(self) -> None:
        """Renew the lease unless the deadline has passed: a hung job must look dead."""
        with job_context(self._job):
            try:
                self._renew()
                self._on_beat()
            except redis.RedisError as error:  # the next renewal may succeed
                log.warning("cannot renew the lease: %s", error)

    def _renew(self) -> None:
        if time.monotonic() > self._deadline_s:
            log.error(
                "passed its deadline of %.0f s; it is at:\n%s",
                self._job.deadline_s,
                _stack_of(self._thread),
            )
            self.is_kept = False
            return
        self.is_unwanted = not self._ledger.renew()
        self.is_kept = not self.is_unwanted


def _stack_of(thread: int) -> str:
    """Return the stack of a thread, innermost call last."""
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "(it ended)"


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
    def keep(
        self, ledger: JobLedger, job: InnerLoopJob, on_beat: Callable[[], None] = lambda: None
    ) -> Iterator[Lease]:
        """Renew the lease of ``job`` until the block ends or the job's deadline passes."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
            self._thread.start()
        self._held = lease = Lease(ledger, job, on_beat)
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
