"""How far the workers of a queue have come, as seen by all the runs that share it."""

import logging
import time
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.keys import QUEUES_STARTED

_PUBLISH_EVERY_S: Final = 0.5
_TTL_S: Final = 600
_CLOCKS_PART_US: Final = 10_000_000
log = logging.getLogger(__name__)


class QueueMark:
    """The newest message of a queue that a worker has begun, by the time it was sent.

    Queues are first in, first out: a message that was sent before one that has begun, and has not
    begun itself, is gone. A run sees that among its own messages; but a queue that several runs
    share is never empty, and then no one would miss the last message of a step.

    Not thread-safe.
    """

    def __init__(self, client: Client, queue: str) -> None:
        self._client, self._queue = client, queue
        self._seen_us = self._published_us = 0
        self._due_s = 0.0

    def note(self, sent_us: int) -> None:
        """Note that a message sent at ``sent_us``, Redis's time, was begun."""
        self._seen_us = max(self._seen_us, sent_us)

    def publish(self) -> None:
        """Tell the other runs, twice a second at most."""
        now_s = time.monotonic()
        if self._seen_us <= self._published_us or now_s < self._due_s:
            return
        pipeline = self._client.pipeline(transaction=False)
        # GT, race prevented: a run that has seen less overwrites one that has seen more
        pipeline.zadd(QUEUES_STARTED, {self._queue: self._seen_us}, gt=True)
        pipeline.expire(QUEUES_STARTED, _TTL_S)
        pipeline.execute()
        self._published_us = self._seen_us
        self._due_s = now_s + _PUBLISH_EVERY_S

    def read(self, *, now_us: int) -> int:
        """Return when the newest message that any run saw begun was sent; 0 when unknown.

        Args:
            now_us: Redis's time; a later mark is not ours, and is dropped.
        """
        score = self._client.zscore(QUEUES_STARTED, self._queue) or 0
        if not 0 <= score <= now_us + _CLOCKS_PART_US:
            log.warning("dropped a mark of %s that lies in the future", self._queue)
            self._client.zrem(QUEUES_STARTED, self._queue)
            score = 0
        return max(self._seen_us, int(score))
