"""Log lines as text or JSON, each with the run, step, shard and attempt that it is about.

The program logs through the standard library's loggers. Only the formatter of a handler is
structlog's. It adds the fields that ``job_context`` or structlog's ``bound_contextvars`` have set,
and removes secrets.
"""

import contextvars
import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings

_FIRST: Final = ("run", "stream", "step", "shard", "attempt", "worker")
"""The order of the fields at the end of a line of text; further fields follow."""


def make_formatter(settings: Settings, *, worker: str = "") -> structlog.stdlib.ProcessorFormatter:
    """Return a formatter for the handlers of this process.

    Args:
        settings: the form of the lines, and the secrets to remove from them.
        worker: name of this worker process, "host:pid"; "" for other processes.
    """
    as_json: list[Processor] = [structlog.processors.JSONRenderer(ensure_ascii=False)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars],
        processors=[
            _Origin(worker, as_json=settings.log_format == "json"),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _Redaction(Redactor.of(settings)),
            *(as_json if settings.log_format == "json" else [_as_text]),
        ],
    )


def job_context(job: InnerLoopJob) -> AbstractContextManager[None]:
    """Name a job in the lines that are logged in the block. Attempts count from 1, as in tables."""
    return bound_contextvars(
        run=job.run, stream=job.stream, step=job.step, shard=job.shard, attempt=job.attempt + 1
    )


def in_this_context(target: Callable[[], None]) -> Callable[[], None]:
    """Return ``target`` for a new thread, in which lines get the fields that are set here."""
    return functools.partial(contextvars.copy_context().run, target)


class _Origin:
    """Adds the time, the process, the level and the logger, before the event's own fields."""

    def __init__(self, worker: str, *, as_json: bool) -> None:
        self._worker, self._as_json = worker, as_json

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        record = event["_record"]
        origin: EventDict = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat()
            if self._as_json
            else _local_time(record.created),
            "level": record.levelname.lower() if self._as_json else record.levelname,
            "logger": record.name,
            "process": record.process,
        }
        if self._worker and "worker" not in event:
            event["worker"] = self._worker
        return {**origin, **event}


class _Redaction:
    """Removes secrets from all fields."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {key: self._plain(value) for key, value in event.items()}

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._redact(str(value))


def _local_time(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{whole},{int(seconds % 1 * 1000):03d}"


def _as_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Write "time process LEVEL logger: message [run=... step=...]", then the traceback."""
    origin = [str(event.pop(name)) for name in ("time", "process", "level", "logger")]
    message, trace = event.pop("event"), event.pop("exception", None)
    named = [*(name for name in _FIRST if name in event), *(set(event) - set(_FIRST))]
    fields = " ".join(f"{name}={event[name]}" for name in named)
    line = f"{' '.join(origin)}: {message}" + (f" [{fields}]" if fields else "")
    return f"{line}\n{trace}" if trace else line
