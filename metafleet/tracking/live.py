"""Sends a run to sinks while it is executed, on threads that cannot stop it."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from metafleet.errors import DatabaseUnavailableError
from metafleet.passwords import redact_urls
from metafleet.tracking.follower import Follower
from metafleet.tracking.sink import Source
from metafleet.tracking.targets import open_sink, shown_target

log = logging.getLogger(__name__)

_EVERY_S: Final = 5.0
_LONGEST_END_S: Final = 30.0
_LONGEST_ERROR: Final = 200


@contextmanager
def tracked(
    make_source: Callable[[], Source],
    targets: Sequence[Any],
    notify: Callable[[str], None],
    *,
    advice: Callable[[Any], str],
) -> Iterator[None]:
    """Send a run's rows to each target during the block, and the run's status at its end.

    An error of a sink does not interrupt the block. ``notify`` receives the error once, and the
    sink gets no further rows.

    Args:
        make_source: makes a source of the run's rows; called once for each target.
        targets: as for ``open_sink``.
        notify: receives the message about a sink that failed.
        advice: target -> the end of that message.

    Raises:
        ConfigError: one of the targets is unknown, or its library is not installed. This is raised
            before the block begins.
    """
    sinks = [(target, open_sink(target)) for target in targets]
    threads = [
        _SinkThread(
            Follower(make_source(), sink),
            shown_target(target),
            notify,
            advice=advice(target),
        )
        for target, sink in sinks
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()


class _SinkThread(threading.Thread):
    def __init__(
        self, follower: Follower, target: str, notify: Callable[[str], None], *, advice: str
    ) -> None:
        super().__init__(name=f"track-{target.partition(':')[0]}", daemon=True)
        self._follower, self._target = follower, target
        self._notify, self._advice = notify, advice
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
            self._follower.drop()
            del self._follower  # and with it the rows that wait
            log.debug("%s", self._target, exc_info=True)
            self._notify(
                f"{self._target} gets no more of this run ({one_line(error)}); {self._advice}"
            )

    def stop(self) -> None:
        """Let the thread send the rest; do not wait forever for a sink that hangs."""
        self._is_ending.set()
        self.join(timeout=_LONGEST_END_S)
        if self.is_alive():
            self._notify(f"{self._target} does not answer; {self._advice}")


def one_line(error: BaseException) -> str:
    """Return the text of a library's error in one line of limited length, without passwords."""
    text = " ".join(redact_urls(str(error)).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_ERROR else f"{text[: _LONGEST_ERROR - 4]} ..."
