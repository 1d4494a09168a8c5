"""Publishes how many shards of a run's open steps are not done."""

import time
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.demand import publish_demand, withdraw_demand
from metafleet.orchestrator.engine.redis_clock import RedisClock

_EVERY_S: Final = 2.0


class DemandMark:
    """The demand of one run. Not thread-safe.

    Steps may be shorter than the time between two publications. So the largest number since the
    last publication is published.
    """

    def __init__(self, client: Client, run: str, clock: RedisClock) -> None:
        self._client, self._run, self._clock = client, run, clock
        self._most, self._due_s = 0, 0.0

    def note(self, open_shards: int) -> None:
        """Remember the number of open shards."""
        self._most = max(self._most, open_shards)

    def publish(self) -> None:
        """Publish the largest number, if two seconds have passed since the last time."""
        if time.monotonic() >= self._due_s:
            publish_demand(self._client, self._run, self._most, now_us=self._clock.now_us())
            self._due_s, self._most = time.monotonic() + _EVERY_S, 0

    def withdraw(self) -> None:
        """Remove the run's demand."""
        withdraw_demand(self._client, self._run)
