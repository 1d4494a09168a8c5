"""The interfaces of sinks, which receive the rows of a run, and of sources, which have them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from metafleet.tracking.records import Mark, Row, TrackedRun


@runtime_checkable
class Sink(Protocol):
    """Receives the rows of one run, and stores the mark together with these rows."""

    def open(self, run: TrackedRun) -> Mark:
        """Begin, or continue after an interruption. Return which rows the sink already has."""
        ...

    def send(self, rows: Sequence[Row], mark: Mark) -> None:
        """Store rows that the sink lacks. Then store ``mark``, which includes these rows."""
        ...

    def end(self, run: TrackedRun) -> None:
        """Store the status of the run, which has ended or was interrupted."""
        ...

    def close(self) -> None:
        """Release files and connections. A second call has no effect."""
        ...


class Source(Protocol):
    """Has the rows of one run."""

    def run(self) -> TrackedRun:
        """Return the run as it is now."""
        ...

    def rows(self, mark: Mark) -> Sequence[Row]:
        """Return the next rows that ``mark`` lacks; none if there are no further rows yet."""
        ...
