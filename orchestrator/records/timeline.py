"""When each worker computed which shard of a run: one array a column, so that views are quick."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Connection, Double, func, select, type_coerce

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.db.records import ATTEMPTS, JOBS

_MOST_ATTEMPTS: Final = 20_000
_IN_VAIN: Final = (AttemptOutcome.LATE, AttemptOutcome.CANCELLED, AttemptOutcome.UNNEEDED)


class Kind(IntEnum):
    """What became of the work of an attempt."""

    COUNTED = 0
    REPEATED = 1
    """Counted, and an earlier attempt at the same shard had been sent."""
    IN_VAIN = 2
    """Discarded, because another attempt had counted: late, cancelled or not needed."""
    FAILED = 3
    """Failed, lost, refused or rejected."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Attempts with known times; element i of each array belongs to attempt i.

    Attributes:
        stream, worker: indices into ``Timeline.streams`` and ``Timeline.workers``.
        step, shard, attempt: as in ``JobRecord``.
        kind: a ``Kind``.
        sent, start, end, counted: times in microseconds since 1970. For an attempt that did not
            count, ``counted`` is when the orchestrator dropped it, or its end.
    """

    stream: NDArray[np.int64]
    step: NDArray[np.int64]
    shard: NDArray[np.int64]
    attempt: NDArray[np.int64]
    worker: NDArray[np.int64]
    kind: NDArray[np.int64]
    sent: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    counted: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, chosen: NDArray[Any]) -> Self:
        return type(self)(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def joined(self, other: Self) -> Self:
        """Return the spans of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*map(np.concatenate, pairs))


@dataclass(frozen=True, slots=True)
class Timeline:
    """The attempts of a run.

    Attributes:
        streams, workers: names; a worker is "host:pid", or "" if it is unknown.
        devices: worker -> device, for workers with a counted job.
        jobs: the jobs, in the order of stream and step.
        others: the attempts that did not count.
        n_untimed: number of jobs and attempts without times, which are in neither.
    """

    streams: tuple[str, ...]
    workers: tuple[str, ...]
    devices: dict[str, str]
    jobs: Spans
    others: Spans
    n_untimed: int

    @property
    def spans(self) -> Spans:
        """The jobs, and then the other attempts."""
        return self.jobs.joined(self.others)

    @property
    def extent(self) -> tuple[int, int]:
        """When the first attempt was sent and the last one ended; (0, 1) without attempts."""
        spans = self.spans
        if not len(spans):
            return 0, 1
        return int(spans.sent.min()), int(max(spans.end.max(), spans.counted.max()))


def read_timeline(session: Connection, run_id: int, known: Timeline | None = None) -> Timeline:
    """Read the timeline of a run.

    Args:
        session: an open transaction.
        run_id: the run.
        known: an older timeline at the same epoch of the run; only newer jobs are read then.
    """
    names = _Names(known)
    kept = _empty() if known is None else known.jobs
    untimed = 0 if known is None else known.n_untimed
    rows: list[Any] = []
    columns = JOBS.c
    query = select(
        *(columns.stream, columns.step, columns.shard, columns.attempt, columns.worker),
        *(columns.outcome, columns.sent_us, *_seconds(JOBS), columns.device),
    ).where(columns.run_id == run_id)
    query = query.order_by(columns.stream, columns.step, columns.shard)
    if known is None:
        rows = list(session.execute(query).all())
    else:
        of_run = select(columns.stream, func.max(columns.step)).where(columns.run_id == run_id)
        for stream, _ in session.execute(of_run.group_by(columns.stream)).all():
            code = names.stream(stream)
            of_stream = kept.step[kept.stream == code]
            last = int(of_stream.max()) if len(of_stream) else 0
            kept = kept[(kept.stream != code) | (kept.step != last)]
            found = query.where(columns.stream == stream, columns.step >= last)
            rows += session.execute(found).all()
    timed = [row for row in rows if row.sent_us is not None]
    jobs = _spans(names, timed, [_kind_of_job(row) for row in timed])
    names.devices |= {row.worker: row.device for row in timed}
    others, n_without = _read_others(session, run_id, names)
    return Timeline(
        streams=tuple(names.streams),
        workers=tuple(names.workers),
        devices=names.devices,
        jobs=kept.joined(jobs),
        others=others,
        n_untimed=untimed + len(rows) - len(timed) + (n_without if known is None else 0),
    )


class _Names:
    """Codes of streams and workers, which stay the same when a timeline grows."""

    def __init__(self, known: Timeline | None) -> None:
        self.streams = {name: i for i, name in enumerate(known.streams if known else ())}
        self.workers = {name: i for i, name in enumerate(known.workers if known else ())}
        self.devices = dict(known.devices) if known else {}

    def stream(self, name: str) -> int:
        return self.streams.setdefault(name, len(self.streams))

    def worker(self, name: str) -> int:
        return self.workers.setdefault(name, len(self.workers))


def _seconds(table: Any) -> list[Any]:
    """Return the durations as the database has them: NULL for not-a-number."""
    names = ("queue_wait_s", "compute_s", "round_trip_s")
    return [type_coerce(table.c[name], Double).label(name) for name in names]


def _read_others(session: Connection, run_id: int, names: _Names) -> tuple[Spans, int]:
    columns = ATTEMPTS.c
    query = select(
        *(columns.stream, columns.step, columns.shard, columns.attempt, columns.worker),
        *(columns.outcome, type_coerce(columns.sent_us, BigInteger).label("sent_us")),
        *(*_seconds(ATTEMPTS), columns.epoch),
    ).where(columns.run_id == run_id)
    rows = session.execute(query.order_by(columns.created_at.desc()).limit(_MOST_ATTEMPTS)).all()
    # an attempt can be lost first and late afterwards: the record with its computing says more
    best: dict[tuple[Any, ...], Any] = {}
    for row in reversed(rows):
        key = (row.stream, row.step, row.epoch, row.shard, row.attempt)
        if row.sent_us is not None and (key not in best or row.compute_s is not None):
            best[key] = row
    kinds = [Kind.IN_VAIN if row.outcome in _IN_VAIN else Kind.FAILED for row in best.values()]
    return _spans(names, list(best.values()), kinds), sum(row.sent_us is None for row in rows)


def _kind_of_job(row: Any) -> Kind:
    if row.outcome != "ok":
        return Kind.FAILED
    return Kind.COUNTED if row.attempt == 1 else Kind.REPEATED


def _spans(names: _Names, rows: Sequence[Any], kinds: Sequence[Kind]) -> Spans:
    def whole(values: Any) -> NDArray[np.int64]:
        return np.fromiter(values, dtype=np.int64, count=len(rows))

    def real(name: str) -> NDArray[np.float64]:
        return np.array([getattr(row, name) for row in rows], dtype=np.float64)

    sent = whole(row.sent_us for row in rows)
    wait, compute, trip = (real(f"{name}_s") for name in ("queue_wait", "compute", "round_trip"))
    wait = np.where(np.isnan(wait), 0.0, wait)
    # an attempt whose end is unknown occupies its worker until it is dropped
    until = np.where(np.isnan(trip), wait, trip)
    end = np.where(np.isnan(compute), np.maximum(until, wait), wait + compute)
    counted = np.where(np.isnan(trip), end, np.maximum(trip, end))
    return Spans(
        stream=whole(names.stream(row.stream) for row in rows),
        step=whole(row.step for row in rows),
        shard=whole(row.shard for row in rows),
        attempt=whole(row.attempt for row in rows),
        worker=whole(names.worker(row.worker) for row in rows),
        kind=whole(kinds),
        sent=sent,
        start=sent + _us(wait),
        end=sent + _us(end),
        counted=sent + _us(counted),
    )


def _us(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(seconds * 1e6).astype(np.int64)


def _empty() -> Spans:
    return Spans(*(np.empty(0, dtype=np.int64) for _ in fields(Spans)))


def with_only(timeline: Timeline, stream: str, step: int) -> Timeline:
    """Return the part of a timeline that belongs to one step of a stream."""
    code = timeline.streams.index(stream) if stream in timeline.streams else -1

    def part(spans: Spans) -> Spans:
        return spans[(spans.stream == code) & (spans.step == step)]

    return replace(timeline, jobs=part(timeline.jobs), others=part(timeline.others))
