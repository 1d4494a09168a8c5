"""Remembers what this process logs during a job, so that the attempt's log can be kept."""

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from metafleet.contracts.connections import redis_errors
from metafleet.contracts.ledger import JobLedger
from metafleet.contracts.redaction import Redactor
from metafleet.errors import BrokerUnavailableError

_MOST_RECORDS: Final = 200
_LONGEST: Final = 8000
"""Maximum length of one line with its traceback."""


class JobLog(logging.Handler):
    """A handler of the root logger that remembers the last records of the current job.

    Records are formatted only if they are wanted, because most jobs succeed. One job at a time.
    """

    def __init__(self, redact: Redactor) -> None:
        super().__init__(logging.INFO)
        self._redact = redact
        self._records: deque[logging.LogRecord] = deque(maxlen=_MOST_RECORDS)
        self.n_seen = 0
        """Number of records of the current job."""
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Remember what this process logs in the block; forget it afterwards."""
        root = logging.getLogger()
        self.n_seen = 0
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
            self._records.clear()  # tracebacks refer to tensors

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a record."""
        self._records.append(record)
        self.n_seen += 1

    def text(self) -> str:
        """Return the lines so far, without secrets."""
        lines = [self._line(record) for record in list(self._records)]
        if (n_lost := self.n_seen - len(lines)) > 0:
            lines.insert(0, f"... {n_lost} earlier lines left out")
        return "\n".join(lines)

    def _line(self, record: logging.LogRecord) -> str:
        line = self._redact(self.format(record))
        if len(line) > _LONGEST:
            half = _LONGEST // 2
            line = f"{line[:half]}\n... {len(line) - _LONGEST} characters left out\n{line[-half:]}"
        return line


class KeptLog:
    """The lines of one attempt, kept in Redis for the orchestrator.

    A job that runs for long keeps its lines while it runs, so that they survive the worker.
    """

    def __init__(self, log: JobLog, ledger: JobLedger, url: str) -> None:
        self._log, self._ledger, self._url = log, ledger, url
        self._n_saved = 0

    def save(self) -> None:
        """Keep all lines so far. Tries once: lines are not worth waiting for."""
        self._n_saved = self._log.n_seen
        if text := self._log.text():
            with contextlib.suppress(BrokerUnavailableError), redis_errors(self._url):
                self._ledger.keep_log(text)

    def save_new(self) -> None:
        """Keep the lines if there are new ones."""
        if self._log.n_seen > self._n_saved:
            self.save()

    def drop(self) -> None:
        """Drop the lines, because the attempt's result counts."""
        if self._n_saved:
            with contextlib.suppress(BrokerUnavailableError), redis_errors(self._url):
                self._ledger.drop_log()
