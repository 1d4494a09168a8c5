"""A local estimate of Redis's time."""

import time
from typing import Final

from metafleet.contracts.connections import Client

_TRUSTED_S: Final = 5.0
"""How long an offset is trusted: the clocks drift by at most a millisecond in this time."""


class RedisClock:
    """A clock that shows the time of Redis.

    The clock asks Redis for the time every few seconds, and uses the local clock in between. So a
    timestamp needs no round trip to Redis. All processes that share a queue use timestamps of this
    clock. Not thread-safe.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._offset_us: int | None = None
        self._asked_s = 0.0

    def now_us(self) -> int:
        """Return the microseconds since 1970 by Redis's clock."""
        now_s = time.monotonic()
        if self._offset_us is None or now_s - self._asked_s > _TRUSTED_S:
            seconds, microseconds = self._client.time()
            now_s = time.monotonic()
            self._offset_us = seconds * 1_000_000 + microseconds - int(now_s * 1e6)
            self._asked_s = now_s
        return self._offset_us + int(now_s * 1e6)

    def forget(self) -> None:
        """Ask Redis again at the next call: it was restarted, perhaps on another host."""
        self._offset_us = None
