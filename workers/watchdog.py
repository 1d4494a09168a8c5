"""Ends this process when its job hangs: nothing else stops code that never returns."""

import faulthandler
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from metafleet.contracts.job import InnerLoopJob

_STDERR: Final = 2


@contextmanager
def watch(job: InnerLoopJob) -> Iterator[None]:
    """End the process, with exit status 1, if the block takes longer than the job may take.

    The job's lease expires earlier, so that the shard can be sent to another worker. Before the
    process ends, the traceback of each thread is written to standard error. The parent process
    starts the process again: a pool restarts its child processes, and ``metafleet up`` and
    ``metafleet worker`` restart their workers. The timer is a C thread, which does not need the
    interpreter lock that hung code may hold. Only one block may be active at a time.
    """
    # this ends no job that is still in time: its lease expires after the deadline at the earliest
    longest_s = min(job.deadline_s + job.lease_ms / 1000, threading.TIMEOUT_MAX)
    # not sys.stderr: Celery replaces it by its log, and it may be anything in a test
    faulthandler.dump_traceback_later(longest_s, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
