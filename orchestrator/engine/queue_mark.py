"""The progress of a queue's workers, as seen by all runs that share the queue."""

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
    """The time at which the newest message that a worker has begun was sent to a queue.

    Queues are first in, first out. If a worker has begun a later message and no worker has begun an
    earlier message, the earlier message is lost. So a run can compare each of its messages with its
    own later messages. Its last message needs another test: if the queue is empty and no worker has
    begun the last message, the message is lost. But a queue that several runs share may never be
    empty. The runs that share a queue therefore share this mark. With the mark, a run can compare
    its last message with later messages of other runs.

    Not thread-safe.
    """

    def __init__(self, client: Client, queue: str) -> None:
        self._client, self._queue = client, queue
        self._seen_us = self._published_us = 0
        self._due_s = 0.0

    def note(self, sent_us: int) -> None:
        """Record that a worker began a message sent at ``sent_us``, Redis's time."""
        self._seen_us = max(self._seen_us, sent_us)

    def publish(self) -> None:
        """Publish the mark for other runs, at most twice a second."""
        now_s = time.monotonic()
        if self._seen_us <= self._published_us or now_s < self._due_s:
            return
        pipeline = self._client.pipeline(transaction=False)
        # GT prevents a race: a run that saw an older mark overwrites a newer one
        pipeline.zadd(QUEUES_STARTED, {self._queue: self._seen_us}, gt=True)
        pipeline.expire(QUEUES_STARTED, _TTL_S)
        pipeline.execute()
        self._published_us = self._seen_us
        self._due_s = now_s + _PUBLISH_EVERY_S

    def read(self, *, now_us: int) -> int:
        """Return the mark: the sending time, in microseconds of Redis's clock; 0 if unknown.

        Args:
            now_us: the current time in microseconds of Redis's clock. If the mark is later than
                this time (by more than clocks may differ), another program wrote it, and it is
                deleted.
        """
        score = self._client.zscore(QUEUES_STARTED, self._queue) or 0
        if not 0 <= score <= now_us + _CLOCKS_PART_US:
            log.warning("dropped a mark of %s that lies in the future", self._queue)
            self._client.zrem(QUEUES_STARTED, self._queue)
            score = 0
        return max(self._seen_us, int(score))
