"""Watches the workers that are alive. Pages work without it when Redis is unreachable."""

import logging
import threading
from dataclasses import dataclass
from typing import Final

from metafleet.contracts.connections import connect, redis_errors
from metafleet.contracts.presence import WorkerInfo, list_workers
from metafleet.contracts.settings import Settings
from metafleet.errors import MetafleetError

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class FleetState:
    """What was last known of the workers.

    Attributes:
        workers: the workers that sent a heartbeat within ten minutes; None if they are unknown.
        problem: why they are unknown; "" if no Redis is configured.
    """

    workers: tuple[WorkerInfo, ...] | None = None
    problem: str = ""

    @property
    def n_alive(self) -> int | None:
        """The number of workers that are alive; None if it is unknown."""
        if self.workers is None:
            return None
        return sum(worker.is_alive for worker in self.workers)


class FleetWatch:
    """Reads the list of workers every two seconds, in a thread of its own.

    Attributes:
        state: the newest state.
    """

    def __init__(self, settings: Settings) -> None:
        self.state = FleetState()
        self._url = settings.broker_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-watch", daemon=True)

    def start(self) -> None:
        """Read the list once within a second, if Redis answers, and then regularly."""
        if self._url is not None:
            self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _run(self) -> None:
        assert self._url is not None
        with connect(self._url, socket_timeout_s=_TIMEOUT_S, retries=0) as client:
            while not self._stop.is_set():
                try:
                    with redis_errors(self._url):
                        self.state = FleetState(tuple(list_workers(client)))
                except MetafleetError as error:
                    self.state = FleetState(problem=str(error))
                self._stop.wait(_LOOK_EVERY_S)
