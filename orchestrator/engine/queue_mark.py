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
    """The sending time of the newest message of a queue that a worker has begun.

    Queues are first in, first out. Suppose that a worker has begun a later message, and no worker
    has begun an earlier one. The earlier message is then lost. For all messages but its last, a run
    can detect this from its own later messages. Its last message is lost if no worker has begun it
    although the queue is empty. But it is possible that a queue that several runs share is never
    empty. All these runs therefore share this mark, so that a run can compare its last message with
    later messages of other runs.

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
        """Return the sending time of the newest begun message of any run; 0 if unknown.

        Args:
            now_us: Redis's time. A later mark was not written by us, so it is deleted.
        """
        score = self._client.zscore(QUEUES_STARTED, self._queue) or 0
        if not 0 <= score <= now_us + _CLOCKS_PART_US:
            log.warning("dropped a mark of %s that lies in the future", self._queue)
            self._client.zrem(QUEUES_STARTED, self._queue)
            score = 0
        return max(self._seen_us, int(score))
