"""Sends a run to sinks while it is executed, on a thread that cannot stop it."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from metafleet.db.engine import Database
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.tracking.follower import Follower
from metafleet.orchestrator.tracking.targets import open_sink

log = logging.getLogger(__name__)

_EVERY_S: Final = 5.0
_LONGEST_END_S: Final = 30.0


@contextmanager
def tracked(
    database: Database, uid: str, targets: Sequence[str], notify: Callable[[str], None]
) -> Iterator[None]:
    """Send a run's rows to each target during the block, and the run's status at its end.

    A sink writes rows to one target. An error of a sink does not interrupt the block. ``notify``
    receives the error once, and the sink gets no further rows. Later, `metafleet runs export` can
    send the missing rows.

    Raises:
        ConfigError: a text is not a target, or a target's library is not installed. This is raised
            before the block begins.
    """
    threads = [
        _SinkThread(Follower(database, uid, open_sink(target)), target, notify)
        for target in targets
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()


class _SinkThread(threading.Thread):
    def __init__(self, follower: Follower, target: str, notify: Callable[[str], None]) -> None:
        super().__init__(name=f"track-{target.partition(':')[0]}", daemon=True)
        self._follower, self._target, self._notify = follower, target, notify
        self._is_ending = threading.Event()

    def run(self) -> None:
        try:
            while not self._is_ending.wait(_EVERY_S):
                try:
                    self._follower.send()
                except DatabaseUnavailableError as error:  # the recorder reports it
                    log.debug("%s: %s", self._target, error)
            self._follower.end()
        except Exception as error:  # whatever a library raises must not stop the run
            log.warning("%s", self._target, exc_info=True)
            self._notify(
                f"{self._target} gets no more of this run ({error!s:.200}); the run goes on, and "
                "`metafleet runs export --format tensorboard` sends the rest later"
            )

    def stop(self) -> None:
        """Let the thread send the rest; do not wait forever for a sink that hangs."""
        self._is_ending.set()
        self.join(timeout=_LONGEST_END_S)
        if self.is_alive():
            self._notify(f"{self._target} does not answer; the run does not wait for it")
