"""How long each step of a timeline took, and the job that set its time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metafleet.orchestrator.records.timeline import Spans


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a run; element i of each array belongs to step i, in the order of time.

    Attributes:
        stream, step: as in ``Spans``.
        begin, end: when its first job was sent and its last one counted, in microseconds.
        last: index of the job that counted last. This job, the straggler, set the step's time.
        median: when half of its jobs had counted, in microseconds.
    """

    stream: NDArray[np.int64]
    step: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    last: NDArray[np.int64]
    median: NDArray[np.int64]

    @classmethod
    def of(cls, jobs: Spans) -> "Steps":
        """Compute the steps of the jobs."""
        order = np.lexsort((jobs.counted, jobs.step, jobs.stream))
        stream, step = jobs.stream[order], jobs.step[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (stream[1:] != stream[:-1]) | (step[1:] != step[:-1])
        firsts = np.flatnonzero(is_first)
        if not len(firsts):
            return cls(*(np.empty(0, dtype=np.int64) for _ in range(6)))
        nexts = np.append(firsts[1:], len(order))
        found = (
            stream[firsts],
            step[firsts],
            np.minimum.reduceat(jobs.sent[order], firsts),
            jobs.counted[order][nexts - 1],
            order[nexts - 1],
            jobs.counted[order][firsts + (nexts - firsts - 1) // 2],
        )
        in_time = np.argsort(found[2], kind="stable")
        return cls(*(each[in_time] for each in found))
