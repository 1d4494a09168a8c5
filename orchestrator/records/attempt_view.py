"""What is recorded about attempts of shards: outcomes, reasons and log lines."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.db.records import AttemptLogRecord, AttemptRecord, JobRecord, RunRecord
from metafleet.db.repositories.attempts import (
    AttemptFilter,
    AttemptLogRepository,
    AttemptRepository,
)
from metafleet.db.repositories.jobs import JobRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.records.run_view import without_nan

COUNTED: Final = "counted"
_Key = tuple[str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt to compute a shard.

    Attributes:
        stream, step, shard, epoch, attempt: identify the attempt, as in ``AttemptRecord``.
            ``epoch`` is None if only the job of a counted attempt is recorded.
        outcomes: its outcomes, the oldest first. An attempt can be lost first and late afterwards.
        job: the job, if the attempt's result counted.
        worker: "host:pid"; "" if unknown.
        log: its last log lines; "" if none were kept.
    """

    stream: str
    step: int
    shard: int
    epoch: int | None
    attempt: int
    outcomes: tuple[AttemptRecord, ...] = ()
    job: JobRecord | None = None
    worker: str = ""
    log: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; not-a-number becomes null."""
        told = [
            {
                "outcome": each.outcome,
                "reason": each.reason,
                "detail": each.detail,
                "queue_wait_s": each.queue_wait_s,
                "compute_s": each.compute_s,
                "created_at": each.created_at.isoformat(),
            }
            for each in self.outcomes
        ]
        view = {
            **{name: getattr(self, name) for name in ("stream", "step", "shard", "attempt")},
            "epoch": self.epoch,
            "worker": self.worker,
            "counted": self.job is not None,
            "job": asdict(self.job) if self.job else None,
            "outcomes": told,
            "log": self.log.splitlines(),
        }
        cleaned: dict[str, Any] = without_nan(view)
        return cleaned


def read_attempts(
    session: Connection, run: RunRecord, of: AttemptFilter, *, limit: int
) -> tuple[AttemptView, ...]:
    """Return the newest ``limit`` attempts of a run that ``of`` selects.

    If ``of`` names a step, the attempts whose result counted are included.

    Raises:
        ConfigError: nothing is recorded about the step or shard that ``of`` names.
    """
    found = _Found()
    found.add_outcomes(AttemptRepository(session).list(run.id, of, limit=limit))
    found.add_logs(AttemptLogRepository(session).list(run.id, of, limit=limit))
    if of.step is not None:
        jobs = JobRepository(session).list(run.id, stream=of.stream, step=of.step)
        found.add_jobs(job for job in jobs if of.shard in (None, job.shard))
        if not found.views:
            _refuse(run, of, jobs)
    return tuple(sorted(found.views.values(), key=_place)[-limit:])


@dataclass(slots=True)
class _Found:
    """Attempts by their keys."""

    views: dict[_Key, AttemptView] = field(default_factory=dict)

    def add_outcomes(self, records: Iterable[AttemptRecord]) -> None:
        for each in records:
            view = self._get(each)
            self.views[_key(each)] = replace(
                view, outcomes=(*view.outcomes, each), worker=each.worker or view.worker
            )

    def add_logs(self, records: Iterable[AttemptLogRecord]) -> None:
        for each in records:
            view = self._get(each)
            self.views[_key(each)] = replace(view, log=each.text, worker=view.worker or each.worker)

    def add_jobs(self, jobs: Iterable[JobRecord]) -> None:
        """Add jobs, which have no epoch: a job belongs to the newest epoch with its attempt."""
        for job in jobs:
            names = (job.stream, job.step, job.shard, job.attempt)
            epochs = [key[3] for key in self.views if (*key[:3], key[4]) == names]
            key = (*names[:3], max(epochs, default=-1), job.attempt)
            view = self.views.get(key) or AttemptView(*names[:3], None, job.attempt)
            if any(each.outcome != "late" for each in view.outcomes):  # of another epoch
                key = (*names[:3], key[3] + 1, job.attempt)
                view = AttemptView(*names[:3], None, job.attempt)
            self.views[key] = replace(view, job=job, worker=job.worker)

    def _get(self, each: AttemptRecord | AttemptLogRecord) -> AttemptView:
        new = AttemptView(each.stream, each.step, each.shard, each.epoch, each.attempt)
        return self.views.get(_key(each), new)


def _key(each: AttemptRecord | AttemptLogRecord) -> _Key:
    return each.stream, each.step, each.shard, each.epoch, each.attempt


def _place(view: AttemptView) -> tuple[int, str, int, float, int]:
    epoch = float("inf") if view.epoch is None else view.epoch
    return view.step, view.stream, view.shard, epoch, view.attempt


def _refuse(run: RunRecord, of: AttemptFilter, jobs: tuple[JobRecord, ...]) -> None:
    step = f"{of.stream} step {of.step}" if of.stream else f"step {of.step}"
    if jobs:
        last = max(job.shard for job in jobs)
        raise ConfigError(f"shard {of.shard} of {step} of run {run.id}; it has shards 0 to {last}")
    raise ConfigError(
        f"run {run.id} has no jobs of {step}; it has done {run.steps_done} outer steps"
    )
