"""The state of the runs in the database at one moment."""

import statistics
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from metafleet.db.records import AttemptTotal, JobRecord, OuterStepRecord, RunRecord, RunStatus
from metafleet.db.repositories.attempts import AttemptCountRepository
from metafleet.db.repositories.jobs import JobRepository
from metafleet.db.repositories.outer_steps import OuterStepRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.records.states import LiveState, live_states

_MOST_RUNS: Final = 100
"""Maximum number of open runs that are read one by one. All are counted."""

_STEPS: Final = 20
"""Number of last steps over which figures are averaged."""

_TRAINING: Final = "train"


@dataclass(frozen=True, slots=True)
class Straggler:
    """The job that took longest in a step.

    Attributes:
        shard, worker: the job's shard and its worker, "host:pid".
        took_s: seconds from sending the job to its result.
        median_s: the median of these seconds over the jobs of the step.
    """

    shard: int
    worker: str
    took_s: float
    median_s: float


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is queued or running.

    Attributes:
        run: the run.
        state: its state, and the reason for it.
        steps: its last steps, at most twenty; empty before the first.
        jobs: number of jobs of the last step.
        payload_bytes: bytes of the sums that workers returned in the last step.
        straggler: the slowest job of the last step; None without jobs.
    """

    run: RunRecord
    state: LiveState
    steps: tuple[OuterStepRecord, ...]
    jobs: int
    payload_bytes: int
    straggler: Straggler | None

    @property
    def step_s(self) -> float | None:
        """Mean seconds of the last steps; None before the first."""
        return statistics.fmean(step.step_s for step in self.steps) if self.steps else None

    @property
    def jobs_per_s(self) -> float:
        """Jobs per second: those of the last step, over the mean seconds of a step."""
        return self.jobs / self.step_s if self.step_s else 0.0

    @property
    def episodes_per_s(self) -> float:
        """Episodes per second, over the last steps."""
        total_s = sum(step.step_s for step in self.steps)
        return sum(step.episodes for step in self.steps) / total_s if total_s else 0.0

    @property
    def max_staleness(self) -> int:
        """How many versions old the state may be at which a gradient is computed."""
        return int(self.run.config.get("engine", {}).get("max_staleness", 0))


@dataclass(frozen=True, slots=True)
class RunsReading:
    """The state of the runs.

    Attributes:
        by_status: status -> number of runs that are not archived.
        open_runs: the newest queued and running runs, at most a hundred.
        attempts: the attempts of all runs, by outcome and reason.
    """

    by_status: dict[str, int]
    open_runs: tuple[OpenRun, ...]
    attempts: tuple[AttemptTotal, ...]


def read_runs(session: Connection, *, n_workers: int | None) -> RunsReading:
    """Read the state of the runs; ``n_workers`` are alive, None if that is unknown."""
    runs = RunRepository(session)
    found = [
        run
        for status in (RunStatus.RUNNING, RunStatus.QUEUED)
        for run in runs.list(status=status, limit=_MOST_RUNS)
    ][:_MOST_RUNS]
    states = live_states(session, found, n_workers=n_workers)
    return RunsReading(
        by_status=runs.count_by_status(),
        open_runs=tuple(_read_open(session, run, states[run.id]) for run in found),
        attempts=AttemptCountRepository(session).totals(),
    )


def _read_open(session: Connection, run: RunRecord, state: LiveState) -> OpenRun:
    done = run.steps_done
    steps = OuterStepRepository(session).list(run.id, after_step=max(0, done - _STEPS))
    jobs = JobRepository(session).list(run.id, stream=_TRAINING, step=done) if done else ()
    return OpenRun(
        run=run,
        state=state,
        steps=steps[-_STEPS:],
        jobs=len(jobs),
        payload_bytes=sum(job.payload_bytes for job in jobs),
        straggler=_straggler(jobs),
    )


def _straggler(jobs: tuple[JobRecord, ...]) -> Straggler | None:
    if not jobs:
        return None
    took_s = [_took_s(job) for job in jobs]
    slowest_s, slowest = max(zip(took_s, range(len(jobs)), strict=True))
    job = jobs[slowest]
    return Straggler(job.shard, job.worker, slowest_s, statistics.median(took_s))


def _took_s(job: JobRecord) -> float:
    return max(0.0, job.queue_wait_s) + max(0.0, job.compute_s)  # NaN, if unknown, counts as 0
