"""Finds the workers that take jobs, and those that only look alive."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.keys import queue_list
from metafleet.contracts.presence import WorkerInfo, list_workers
from metafleet.orchestrator.engine.incompatible_workers import find_mismatch

STARVES_AFTER_S: Final = 15.0
"""How long a worker may be idle while jobs wait. A working one gets a job at once."""


class RollCall:
    """The workers of some queues, as they were at the last call of ``look``.

    Args:
        client: client of the broker.
        queues: names of the queues.
        signing_key: the orchestrator's signing key.
        clock_s: returns the time of a monotonic clock, in seconds.

    Attributes:
        workers: workers that take jobs.
        unfit: live workers that do not take jobs. Each item is a pair of a worker and the reason.
    """

    def __init__(
        self,
        client: Client,
        queues: Sequence[str],
        *,
        signing_key: str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._queues, self._clock_s = client, tuple(queues), clock_s
        self._signing_key = signing_key
        self._waiting_since_s: dict[str, float] = {}
        self._starving: set[tuple[str, int]] = set()
        self.workers: tuple[WorkerInfo, ...] = ()
        self.unfit: tuple[tuple[WorkerInfo, str], ...] = ()

    def look(self) -> None:
        """Read the workers from Redis, and update both attributes. Not thread-safe.

        Raises:
            redis.RedisError: Redis failed; the attributes keep their previous values.
        """
        found = list_workers(self._client)
        self._note_waiting()
        alive = [w for w in found if w.is_alive and not {*w.queues}.isdisjoint(self._queues)]
        judged = [(worker, self._judge(worker)) for worker in alive]
        self.workers = tuple(worker for worker, why in judged if not why)
        self.unfit = tuple((worker, why) for worker, why in judged if why)

    def _note_waiting(self) -> None:
        now_s = self._clock_s()
        for queue in self._queues:
            if self._client.llen(queue_list(queue, self._signing_key)):
                self._waiting_since_s.setdefault(queue, now_s)
            else:
                self._waiting_since_s.pop(queue, None)

    def _judge(self, worker: WorkerInfo) -> str:
        return find_mismatch(worker, self._signing_key) or self._find_hunger(worker)

    def _find_hunger(self, worker: WorkerInfo) -> str:
        """Return why a worker is starving, which lasts until it takes a job; "" if it is not."""
        who = (worker.name, worker.pid)
        if worker.idle_s < STARVES_AFTER_S:
            self._starving.discard(who)
            return ""
        now_s = self._clock_s()
        waited_s = now_s - min(self._waiting_since_s.get(queue, now_s) for queue in worker.queues)
        if waited_s >= STARVES_AFTER_S:
            self._starving.add(who)
        if who not in self._starving:
            return ""
        return (
            f"looks alive but has taken no job for {worker.idle_s:.0f} s, while jobs wait in "
            f"{' and '.join(worker.queues)}: it is not counted on; look at its log, then stop it "
            "and start another"
        )
