"""What a timeline shows of a range of time: single attempts, or shares of time in buckets."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from metafleet.orchestrator.records.timeline import Kind, Spans, Timeline
from metafleet.orchestrator.records.timeline_steps import Steps

MOST_SPANS: Final = 1000
"""Greatest number of attempts that are shown one by one; of more, shares of time are shown."""
_MOST_CELLS: Final = 4000
_MOST_BUCKETS: Final = 400
_MOST_LANES: Final = 40
_MOST_STEPS: Final = 200
_SLOWEST: Final = 10
_LEAST_US: Final = 1000

Range = tuple[int, int]


@dataclass(frozen=True)
class TimelineView:
    """Views of one timeline. Times in the answers are microseconds since its first attempt."""

    timeline: Timeline
    spans: Spans = field(init=False)
    steps: Steps = field(init=False)
    extent: Range = field(init=False)

    def __post_init__(self) -> None:
        """Compute what all views need."""
        object.__setattr__(self, "spans", self.timeline.spans)
        object.__setattr__(self, "steps", Steps.of(self.timeline.jobs))
        object.__setattr__(self, "extent", self.timeline.extent)

    def of_step(self, stream: str, step: int) -> Range | None:
        """Return the time of a step, with a margin; None if there is no such step."""
        if stream not in self.timeline.streams:
            return None
        code = self.timeline.streams.index(stream)
        found = np.flatnonzero((self.steps.stream == code) & (self.steps.step == step))
        if not len(found):
            return None
        begin, end = int(self.steps.begin[found[0]]), int(self.steps.end[found[0]])
        margin = max((end - begin) // 25, 1)
        return begin - self.extent[0] - margin, end - self.extent[0] + margin

    def within(self, begin: int, end: int) -> dict[str, Any]:
        """Return the view of a range as JSON values."""
        origin = self.extent[0]
        end = max(end, begin + _LEAST_US)
        spans, t = self.spans, self.timeline
        last_us = np.maximum(spans.end, spans.counted)
        seen = np.flatnonzero((spans.sent < origin + end) & (last_us > origin + begin))
        workers, lanes = self._lanes(spans[seen], origin + begin, origin + end)
        in_lane = seen[lanes[spans.worker[seen]] >= 0]
        is_single = len(in_lane) <= MOST_SPANS
        chosen = spans[in_lane]
        return {
            "range": [begin, end],
            "extent": self.extent[1] - origin,
            "origin": origin,
            "streams": t.streams,
            "lanes": self._figures(chosen, workers, lanes, (origin + begin, origin + end)),
            "hidden": len(set(spans.worker[seen].tolist())) - len(workers),
            "attempts": len(in_lane),
            "spans": self._single(in_lane, lanes) if is_single else None,
            "shares": None if is_single else _shares(chosen, lanes, origin, (begin, end)),
            "steps": self._steps(origin + begin, origin + end),
        }

    def _lanes(self, seen: Spans, begin: int, end: int) -> tuple[list[int], NDArray[np.int64]]:
        """Return the workers of the lanes, by name, and worker -> lane; -1 without a lane."""
        n = len(self.timeline.workers)
        work = np.bincount(seen.worker, weights=_inside(seen, begin, end) + 1.0, minlength=n)
        busiest = [int(w) for w in np.argsort(-work, kind="stable")[:_MOST_LANES] if work[w] > 0]
        workers = sorted(busiest, key=lambda w: _order(self.timeline.workers[w]))
        lanes = np.full(n, -1, dtype=np.int64)
        lanes[workers] = np.arange(len(workers))
        return workers, lanes

    def _figures(
        self, chosen: Spans, workers: list[int], lanes: NDArray[np.int64], within: Range
    ) -> list[dict[str, Any]]:
        begin, end = within
        lane = lanes[chosen.worker]

        def total(weights: NDArray[Any]) -> NDArray[np.float64]:
            return np.bincount(lane, weights=weights, minlength=len(workers)).astype(np.float64)

        busy = total(_inside(chosen, begin, end)) / (end - begin)
        wait = total((chosen.start - chosen.sent) / 1e6)
        counts = {kind: total(chosen.kind == kind) for kind in Kind}
        lasts = self._lasts(begin, end)
        of_last = self.timeline.jobs.worker[lasts]
        set_time = np.bincount(of_last, minlength=len(lanes))
        return [
            {
                "worker": self.timeline.workers[worker] or "unknown worker",
                "is_known": bool(self.timeline.workers[worker]),
                "device": self.timeline.devices.get(self.timeline.workers[worker], ""),
                "busy": round(float(busy[i]), 4),
                "counted": int(counts[Kind.COUNTED][i] + counts[Kind.REPEATED][i]),
                "repeated": int(counts[Kind.REPEATED][i]),
                "in_vain": int(counts[Kind.IN_VAIN][i]),
                "failed": int(counts[Kind.FAILED][i]),
                "wait_s": round(float(wait[i] / max(np.count_nonzero(lane == i), 1)), 4),
                "set_time": int(set_time[worker]),
            }
            for i, worker in enumerate(workers)
        ]

    def _lasts(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the stragglers of the steps that ended in a range."""
        return self.steps.last[(self.steps.end > begin) & (self.steps.end <= end)]

    def _single(self, seen: NDArray[np.int64], lanes: NDArray[np.int64]) -> list[list[int]]:
        spans, origin = self.spans[seen], self.extent[0]
        # jobs come first in ``spans``, so that their indices are the same there
        is_last = np.isin(seen, self.steps.last)
        columns = (
            *(lanes[spans.worker], spans.kind, spans.sent - origin, spans.start - origin),
            *(spans.end - origin, spans.counted - origin, spans.stream, spans.step),
            *(spans.shard, spans.attempt, is_last.astype(np.int64)),
        )
        found: list[list[int]] = np.stack(columns, axis=1).tolist()
        return sorted(found, key=lambda row: (row[2], row[8]))

    def _steps(self, begin: int, end: int) -> dict[str, Any]:
        steps, origin = self.steps, self.extent[0]
        seen = np.flatnonzero((steps.begin < end) & (steps.end > begin))
        took = steps.end[seen] - steps.begin[seen]
        slowest = seen[np.argsort(-took, kind="stable")[:_SLOWEST]]
        shown = seen if len(seen) <= _MOST_STEPS else seen[:0]

        def rows(chosen: NDArray[np.int64]) -> list[dict[str, Any]]:
            jobs = self.timeline.jobs
            return [
                {
                    "stream": self.timeline.streams[steps.stream[i]],
                    "step": int(steps.step[i]),
                    "begin": int(steps.begin[i]) - origin,
                    "end": int(steps.end[i]) - origin,
                    "worker": self.timeline.workers[jobs.worker[steps.last[i]]],
                    "shard": int(jobs.shard[steps.last[i]]),
                    "after": int(steps.end[i] - steps.median[i]),
                }
                for i in chosen.tolist()
            ]

        return {"n": len(seen), "shown": rows(shown), "slowest": rows(slowest)}


def _order(worker: str) -> tuple[str, int, str]:
    host, _, pid = worker.rpartition(":")
    return host, int(pid) if pid.isascii() and pid.isdigit() else 0, worker


def _inside(spans: Spans, begin: int, end: int) -> NDArray[np.float64]:
    """Return how long each attempt computed in a range, in microseconds."""
    inside = np.minimum(spans.end, end) - np.maximum(spans.start, begin)
    found: NDArray[np.float64] = np.maximum(inside, 0).astype(np.float64)
    return found


def _shares(
    spans: Spans, lanes: NDArray[np.int64], origin: int, within: Range
) -> list[list[list[float]]]:
    """Return for each lane and bucket the share of time of each kind, and of waiting.

    "Waiting" is the mean number of messages that were sent and not yet begun.
    """
    begin, end = within
    n_lanes = int(lanes.max()) + 1
    n = max(1, min(_MOST_BUCKETS, _MOST_CELLS // n_lanes))
    lane, start, stop = lanes[spans.worker], spans.start - origin, spans.end - origin
    sums = []
    for kind in Kind:
        of_kind = spans.kind == kind
        sums.append(_spread(lane[of_kind], start[of_kind], stop[of_kind], within, (n_lanes, n)))
    sums.append(_spread(lane, spans.sent - origin, start, within, (n_lanes, n)))
    shares = np.stack(sums, axis=2) * n / (end - begin)
    found: list[list[list[float]]] = np.round(shares, 3).tolist()
    return found


def _spread(
    lane: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    within: Range,
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Return the summed length of intervals in each lane and bucket, in microseconds."""
    n_lanes, n = shape
    width = (within[1] - within[0]) / n

    def until(moments: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each lane and bucket the time from all moments to the bucket's end."""
        at = np.clip((moments - within[0]) / width, 0, n)
        bucket = np.minimum(at.astype(np.int64), n - 1)
        cell = lane * n + bucket
        counts = np.bincount(cell, minlength=n_lanes * n).astype(np.float64).reshape(n_lanes, n)
        part = np.bincount(cell, weights=bucket + 1 - at, minlength=n_lanes * n)
        before = np.cumsum(counts, axis=1) - counts
        found: NDArray[np.float64] = before + part.reshape(n_lanes, n)
        return found

    return np.maximum(until(start) - until(end), 0.0) * width
