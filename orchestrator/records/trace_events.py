"""A timeline in the Trace Event Format, which Perfetto and chrome://tracing open.

The format is described in "Trace Event Format" of the Chromium project. Times are microseconds.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from metafleet.orchestrator.records.timeline import Kind, Timeline
from metafleet.orchestrator.records.timeline_steps import Steps

_WORKERS, _STEPS = 1, 2
_EVENTS_AT_ONCE: Final = 5000
_CATEGORIES: Final = {
    Kind.COUNTED: "counted",
    Kind.REPEATED: "counted,repeated",
    Kind.IN_VAIN: "discarded",
    Kind.FAILED: "failed",
}
Event = dict[str, Any]


def trace_parts(timeline: Timeline, name: str) -> Iterator[str]:
    """Yield the text of the file in parts of some thousand events, an event a line.

    Args:
        timeline: the timeline of a run.
        name: the name of the run.
    """
    begin, events = "[\n", _events(timeline, name)
    while part := list(islice(events, _EVENTS_AT_ONCE)):
        yield begin + ",\n".join(json.dumps(each, separators=(",", ":")) for each in part)
        begin = ",\n"
    yield "\n]\n"


def _events(timeline: Timeline, name: str) -> Iterator[Event]:
    yield _named("process_name", _WORKERS, 0, f"workers of {name}")
    yield _named("process_name", _STEPS, 0, "steps")
    for tid, worker in enumerate(timeline.workers):
        yield _named("thread_name", _WORKERS, tid, worker or "unknown worker")
    for tid, stream in enumerate(timeline.streams):
        yield _named("thread_name", _STEPS, tid, stream)
    yield from _of_steps(timeline)
    yield from _of_attempts(timeline)


def _of_steps(timeline: Timeline) -> Iterable[Event]:
    steps, origin = Steps.of(timeline.jobs), timeline.extent[0]
    columns = (steps.stream, steps.step, steps.begin, steps.end, steps.last)
    for stream, step, begin, end, last in zip(*(each.tolist() for each in columns), strict=True):
        yield {
            "name": f"step {step}",
            "cat": "step",
            "ph": "X",
            **{"pid": _STEPS, "tid": stream, "ts": begin - origin, "dur": end - begin},
            "args": {
                "straggler": timeline.workers[timeline.jobs.worker[last]],
                "shard": int(timeline.jobs.shard[last]),
            },
        }


def _of_attempts(timeline: Timeline) -> Iterable[Event]:
    spans, origin = timeline.spans, timeline.extent[0]
    columns = (
        *(spans.stream, spans.step, spans.shard, spans.attempt, spans.worker, spans.kind),
        *(spans.sent, spans.start, spans.end, spans.counted),
    )
    rows = zip(*(each.tolist() for each in columns), strict=True)
    for stream, step, shard, attempt, worker, kind, sent, start, end, counted in rows:
        name = f"{timeline.streams[stream]} {step} shard {shard}"
        yield {
            "name": name,
            "cat": _CATEGORIES[Kind(kind)],
            "ph": "X",
            **{"pid": _WORKERS, "tid": worker, "ts": start - origin, "dur": end - start},
            "args": {
                "attempt": attempt,
                "waited_ms": (start - sent) / 1000,
                "returned_after_ms": (counted - end) / 1000,
            },
        }


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
