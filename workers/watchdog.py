"""Ends this process when a job hangs in it: nothing less stops code that never returns."""

import faulthandler
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from metafleet.contracts.job import InnerLoopJob

_STDERR: Final = 2


@contextmanager
def watch(job: InnerLoopJob) -> Iterator[None]:
    """End the process, with exit status 1, when the block takes longer than the job may.

    By then its lease has lapsed, so the shard is on its way to another worker. Who started the
    process starts the next one: a pool its children, ``metafleet up`` and ``metafleet worker`` a
    worker. Where each thread hung is written to standard error first. The timer is a thread of C,
    which needs no interpreter lock: hung code may hold it. One block at a time.
    """
    # no job that is still in time is ended: its lease lapses after the deadline at the earliest
    longest_s = min(job.deadline_s + job.lease_ms / 1000, threading.TIMEOUT_MAX)
    # not sys.stderr, which Celery replaces by its log, and which may be anything in a test
    faulthandler.dump_traceback_later(longest_s, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
