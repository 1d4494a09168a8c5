"""Passes the rows of a run from a source to a sink: what the sink lacks, and each once."""

from contextlib import suppress

from metafleet.tracking.records import Mark
from metafleet.tracking.sink import Sink, Source


class Follower:
    """Passes new rows of one run to a sink. Not thread-safe.

    Args:
        source: has the rows.
        sink: receives the rows.
    """

    def __init__(self, source: Source, sink: Sink) -> None:
        self._source, self._sink = source, sink
        self._mark: Mark | None = None

    def send(self) -> None:
        """Send the rows that the sink lacks. Raises the errors of the sink and the source."""
        if self._mark is None:
            self._mark = self._sink.open(self._source.run())
        while rows := self._source.rows(self._mark):
            mark = self._mark.plus(rows)
            self._sink.send(rows, mark)
            self._mark = mark

    def end(self) -> None:
        """Send the rows that the sink lacks, and the run's status; then close the sink.

        The sink is closed even if an error is raised.
        """
        try:
            self.send()
            self._sink.end(self._source.run())
        except BaseException:
            self.drop()
            raise
        self._sink.close()

    def drop(self) -> None:
        """Close a sink that failed, whatever errors that raises."""
        with suppress(Exception):
            self._sink.close()
