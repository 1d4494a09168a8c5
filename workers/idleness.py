"""How long this worker has had nothing to do, by what Celery's consumer accounts for."""

import time
from collections.abc import Sized

from celery.worker import state


class Idleness:
    """A stopwatch that runs while no job is at hand. For one thread.

    Args:
        ready: the children that can begin a job, of a pool that has children; until the first is
            there no one can expect anything of it.
    """

    def __init__(self, ready: Sized | None = None) -> None:
        self._ready = ready
        self._since_s = time.monotonic()
        self._n_begun = state.all_total_count[0]

    def look(self) -> float:
        """Return the seconds since a job was last at hand, as far as earlier looks saw."""
        now_s, n_begun = time.monotonic(), state.all_total_count[0]
        is_starting = self._ready is not None and not len(self._ready)
        if state.active_requests or n_begun != self._n_begun or is_starting:
            self._since_s, self._n_begun = now_s, n_begun
        return now_s - self._since_s
