"""Survives outages of Redis and the database by repeating calls until they succeed."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from metafleet.contracts.connections import redis_errors
from metafleet.errors import (
    BlobStoreFullError,
    BrokerUnavailableError,
    DatabaseUnavailableError,
    ForeignDataError,
)

T = TypeVar("T")
log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 5.0
_RETRY_S: Final = 10.0


class Retry:
    """Repeats calls that failed because Redis or the database was unavailable.

    Args:
        url: the broker's URL, for messages.
        notify: called with a message when a call fails for the first time, and with another message
            when it has succeeded.
        check: called before each try. It raises an error if the run must stop.
        heal: called when Redis has values of a wrong type under our keys. It deletes these values.

    Attributes:
        waited_s: total time of waiting for Redis and the database, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        notify: Callable[[str], None],
        check: Callable[[], None],
        heal: Callable[[], None] = lambda: None,
    ) -> None:
        self._url, self._notify, self._check, self._heal = url, notify, check, heal
        self.waited_s = 0.0

    def persist(self, call: Callable[[], T]) -> T:
        """Repeat a call, with growing pauses, until it succeeds; return its result.

        If Redis or the database is unavailable, the call is repeated without a time limit. If the
        blob store is full, the call is repeated for at least ten seconds, because blobs of closed
        steps may expire in this time. After that, the error is raised.
        """
        pause_s, away, is_littered = 0.1, "", False
        began_s = time.monotonic()
        full_until_s = began_s + _RETRY_S
        while True:
            self._check()
            try:
                with redis_errors(self._url):
                    if is_littered:
                        self._heal()
                    result = call()
            except (
                BrokerUnavailableError,
                BlobStoreFullError,
                DatabaseUnavailableError,
                ForeignDataError,
            ) as error:
                is_littered = isinstance(error, ForeignDataError)
                if isinstance(error, BlobStoreFullError) and time.monotonic() > full_until_s:
                    raise
                if not away:
                    self._notify(f"waiting: {error}")
                away = "the database" if isinstance(error, DatabaseUnavailableError) else "Redis"
                time.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if away:
                    self.waited_s += time.monotonic() - began_s
                    self._notify(f"{away} is back: going on")
                return result

    @contextmanager
    def leaving(self, what: str) -> Iterator[None]:
        """Leave ``what`` to expire if the store is unreachable, instead of stopping the run."""
        try:
            with redis_errors(self._url):
                yield
        except (BrokerUnavailableError, ForeignDataError) as error:
            log.warning("%s will have to expire: %s", what, error)
