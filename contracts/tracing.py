"""Traces of outer steps for OpenTelemetry: one trace a step, across orchestrator and workers.

Tracing is off unless METAFLEET_TRACES is set. Then nothing of OpenTelemetry is imported, and each
function here returns at once.

Steps are found by the run that structlog's context names, their stream and their number. So no
object has to be passed through the engine.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from structlog.contextvars import get_contextvars

from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_SEND_EVERY_MS: Final = 1000
_TIMEOUT_S: Final = 3
_FLUSH_MS: Final = 5000
_Key = tuple[str, str, int]


@dataclass(slots=True)
class _Tracing:
    """The tracer of this process, and the root spans of open steps."""

    provider: "TracerProvider"
    tracer: "Tracer"
    roots: dict[_Key, "Span"] = field(default_factory=dict)


_tracing: _Tracing | None = None


def start_tracing(settings: Settings, service: str) -> None:
    """Send spans of this process to the collector of the settings, as ``service``.

    Without a collector, or if tracing has started already, nothing happens.

    Raises:
        ConfigError: the extra ``telemetry`` is not installed.
    """
    global _tracing  # noqa: PLW0603 - a process has one tracer, like one log
    if not settings.traces_url or _tracing is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"METAFLEET_TRACES is set, but the package {error.name!r} is missing; run pip install "
            "'metafleet[telemetry]', or unset it"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=True
    )
    exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_EVERY_MS))
    _tracing = _Tracing(provider, provider.get_tracer("metafleet"))


def stop_tracing() -> None:
    """Send the spans that wait, and stop. A pool's child ends without Python's exit handlers."""
    global _tracing  # noqa: PLW0603
    if _tracing is not None:
        _tracing.provider.force_flush(_FLUSH_MS)
        _tracing.provider.shutdown()
        _tracing = None


def begin_step(stream: str, step: int) -> None:
    """Begin the trace of a step."""
    if _tracing is not None:
        key = _key(stream, step)
        attributes: dict[str, str | int] = {"run": key[0], "stream": stream, "step": step}
        _tracing.roots[key] = _tracing.tracer.start_span("step", attributes=attributes)


def end_step(stream: str, step: int, *, error: str = "") -> None:
    """End the trace of a step, if it has one."""
    if _tracing is not None and (root := _tracing.roots.pop(_key(stream, step), None)) is not None:
        if error:
            _mark_failed(root, error)
        root.end()


def step_span(
    stream: str, step: int, name: str, **attributes: str | int
) -> AbstractContextManager[object]:
    """Measure the block as a part of a step's trace."""
    if _tracing is None or (root := _tracing.roots.get(_key(stream, step))) is None:
        return nullcontext()
    return _span(_tracing, name, _context_of(root), attributes)


def trace_parent(stream: str, step: int) -> str:
    """Return the W3C trace context of a step for its jobs; "" without a trace."""
    if _tracing is None or (root := _tracing.roots.get(_key(stream, step))) is None:
        return ""
    context = root.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@contextmanager
def job_span(job: InnerLoopJob, worker: str) -> Iterator["Span | None"]:
    """Measure the block as the computation of a job, in the trace of its step."""
    if _tracing is None or not job.trace:
        yield None
        return
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    parent = TraceContextTextMapPropagator().extract({"traceparent": job.trace})
    attributes: dict[str, str | int] = {
        "run": job.run,
        "stream": job.stream,
        "step": job.step,
        "shard": job.shard,
        "attempt": job.attempt + 1,
        "episodes": job.n_episodes,
        "worker": worker,
    }
    with _span(_tracing, "compute", parent, attributes) as span:
        yield span


def note_outcome(
    span: "Span | None", outcome: str, *, queue_wait_s: float, error: str = ""
) -> None:
    """Add the outcome of a job to its span."""
    if span is not None:
        span.set_attributes({"outcome": outcome, "queue_wait_s": queue_wait_s})
        if error:
            _mark_failed(span, error)


@contextmanager
def _span(
    tracing: _Tracing, name: str, parent: Any, attributes: Mapping[str, str | int]
) -> Iterator["Span"]:
    span = tracing.tracer.start_span(name, context=parent, attributes=dict(attributes))
    try:
        yield span
    except BaseException as error:
        _mark_failed(span, type(error).__name__)  # not its text, which may name a secret
        raise
    finally:
        span.end()


def _mark_failed(span: "Span", why: str) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    span.set_status(Status(StatusCode.ERROR, why))


def _context_of(root: "Span") -> Any:
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

    return set_span_in_context(root)


def _key(stream: str, step: int) -> _Key:
    return str(get_contextvars().get("run", "")), stream, step
