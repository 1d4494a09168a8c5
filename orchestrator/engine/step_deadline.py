"""The deadline of a step."""

import time
from collections.abc import Callable, Sequence

from metafleet.contracts.keys import queue_of


class StepDeadline:
    """Measures the time spent on a step, without pauses in which workers or Redis are missing."""

    def __init__(
        self,
        limit_s: float,
        notify: Callable[[str], None],
        queues: Sequence[str],
        *,
        waited_s: float,
    ) -> None:
        self._limit_s, self._notify, self._queues = limit_s, notify, tuple(queues)
        self._last_s = time.monotonic()
        self._last_waited_s = waited_s
        self._is_paused = False
        self.spent_s = 0.0

    def has_passed(self, workers_alive: int, *, waited_s: float) -> bool:
        """Add the time since the last call, and return whether the step has used up its time.

        Time without workers or without Redis is not added. Users are notified when there is no
        worker any more, and when there is a worker again.

        Args:
            workers_alive: number of live workers.
            waited_s: total time of waiting for Redis so far, in seconds.
        """
        now_s = time.monotonic()
        if workers_alive:
            waited_since_s = waited_s - self._last_waited_s
            self.spent_s += max(0.0, now_s - self._last_s - waited_since_s)
        self._last_s, self._last_waited_s = now_s, waited_s
        if workers_alive == 0 and not self._is_paused:
            self._notify(
                f"paused: no worker listens to {' or '.join(self._queues)}; `metafleet up` starts "
                "its own again, others start with `metafleet worker --device "
                f"{'cuda' if self._queues[-1] == queue_of('cuda') else 'cpu'}`"
            )
        elif workers_alive and self._is_paused:
            self._notify(f"going on: {workers_alive} worker(s) there")
        self._is_paused = workers_alive == 0
        return self.spent_s > self._limit_s
