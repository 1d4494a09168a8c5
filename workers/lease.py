"""Keeps an attempt's lease while its job computes, so that a dead worker is noticed in seconds."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

import redis

from contracts.job import InnerLoopJob
from contracts.ledger import JobLedger

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Context manager: a thread that renews the lease until the job ends or its deadline passes.

    Past ``job.deadline_s`` it stops renewing: a hung computation must look dead.
    """

    def __init__(self, ledger: JobLedger, job: InnerLoopJob) -> None:
        self._ledger, self._job = ledger, job
        self._interval_s = job.lease_ms / 1000 / 4
        self._ended = threading.Event()
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def is_unwanted(self) -> bool:
        """True when nobody waits for this attempt any more."""
        return self._unwanted.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        deadline_s = time.monotonic() + self._job.deadline_s
        while not self._ended.wait(self._interval_s):
            if time.monotonic() > deadline_s:
                log.error("%s passed its deadline of %.0f s", self._job.label, self._job.deadline_s)
                return
            try:
                if not self._ledger.renew():
                    self._unwanted.set()
                    return
            except redis.RedisError as error:  # the next beat may get through
                log.warning("%s cannot renew its lease: %s", self._job.label, error)
