"""Measures how long this worker has been idle, from the counters of Celery's consumer."""

import time
from collections.abc import Sized

from celery.worker import state


class Idleness:
    """Measures for how long the worker has had no job. Not thread-safe.

    Args:
        ready: the child processes that can start a job; None if the pool has no child processes.
            Time in which no child is ready does not count as idle.
    """

    def __init__(self, ready: Sized | None = None) -> None:
        self._ready = ready
        self._since_s = time.monotonic()
        self._n_begun = state.all_total_count[0]

    def look(self) -> float:
        """Return the seconds since the worker last had a job, as seen by this and earlier calls."""
        now_s, n_begun = time.monotonic(), state.all_total_count[0]
        is_starting = self._ready is not None and not len(self._ready)
        if state.active_requests or n_begun != self._n_begun or is_starting:
            self._since_s, self._n_begun = now_s, n_begun
        return now_s - self._since_s
