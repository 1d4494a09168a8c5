"""Sends a run's log to a file, and its errors to standard error too."""

import logging
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from metafleet.contracts.logs import make_formatter
from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings, make_folder

_MAX_BYTES = 5_000_000


class _PatientFileHandler(RotatingFileHandler):
    """A file handler that drops the lines that a full disk refuses."""

    def close(self) -> None:
        """Close the file, whether or not its last lines could be written."""
        with suppress(OSError):
            super().close()


class _OneLineFormatter(logging.Formatter):
    """Formats records without tracebacks, which go to the file only."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Write the level and the message."""
        return self._redact(f"{record.levelname.lower()}: {record.getMessage()}")


def log_to(folder: Path, settings: Settings) -> None:
    """Write the process's log to ``folder/orchestrator.log``; also show errors on the terminal.

    Raises:
        ConfigError: the folder cannot be created or written to.
    """
    logging.raiseExceptions = False  # a full disk loses log lines; it does not flood the terminal
    make_folder(folder, "the folder of logs")
    file = _PatientFileHandler(
        folder / "orchestrator.log", maxBytes=_MAX_BYTES, backupCount=2, delay=True
    )
    file.setFormatter(make_formatter(settings))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.ERROR)
    # whether a collector of traces is away concerns the file only
    terminal.addFilter(lambda record: not record.name.startswith("opentelemetry"))
    terminal.setFormatter(_OneLineFormatter(Redactor.of(settings)))
    logging.basicConfig(level=logging.INFO, handlers=[file, terminal], force=True)
