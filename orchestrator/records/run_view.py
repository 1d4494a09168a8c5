"""Everything recorded about one run."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.data.scoring import score_name
from metafleet.db.records import (
    AttemptRecord,
    AttemptTotal,
    CheckpointRecord,
    EvaluationRecord,
    InnerCurveRecord,
    InnerRatesRecord,
    JobTotals,
    OuterStepRecord,
    RunRecord,
    WorkerJobs,
)
from metafleet.db.repositories.attempts import AttemptCountRepository, AttemptRepository
from metafleet.db.repositories.checkpoints import CheckpointRepository
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.inner_curves import InnerCurveRepository
from metafleet.db.repositories.inner_rates import InnerRatesRepository
from metafleet.db.repositories.jobs import JobRepository
from metafleet.db.repositories.outer_steps import OuterStepRepository
from metafleet.db.repositories.run_notes import RunNotes
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.records.difference import Change, difference, shipped_config

_MOST_ATTEMPTS: Final = 1000
"""Maximum number of unused attempts, newest first. Counters cover all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """Everything recorded about a run. ``changes`` is None if there is nothing to compare with."""

    run: RunRecord
    steps: tuple[OuterStepRecord, ...]
    evaluations: tuple[EvaluationRecord, ...]
    workers: tuple[WorkerJobs, ...]
    jobs: JobTotals
    checkpoint: CheckpointRecord | None
    attempt_totals: tuple[AttemptTotal, ...]
    attempts: tuple[AttemptRecord, ...]
    tags: tuple[str, ...]
    changes: "Changes | None"
    inner_curves: tuple[InnerCurveRecord, ...]
    inner_rates: tuple[InnerRatesRecord, ...]

    @classmethod
    def read(cls, session: Connection, ref: str) -> "RunView":
        """Read a run by id, uid, name or "latest"; raise RunNotFoundError if there is none."""
        run = RunRepository(session).get(ref)
        return cls(
            run=run,
            steps=OuterStepRepository(session).list(run.id),
            evaluations=EvaluationRepository(session).list(run.id),
            workers=JobRepository(session).count_by_worker(run.id),
            jobs=JobRepository(session).totals(run.id),
            checkpoint=CheckpointRepository(session).find_last(run.id),
            attempt_totals=AttemptCountRepository(session).totals(run.id),
            attempts=AttemptRepository(session).list(run.id, limit=_MOST_ATTEMPTS),
            tags=RunNotes(session).tags([run.id]).get(run.id, ()),
            changes=Changes.read(session, run),
            inner_curves=InnerCurveRepository(session).list(run.id),
            inner_rates=InnerRatesRepository(session).list(run.id),
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; not-a-number and infinity become null."""
        view = asdict(self.run) | {
            "metric": score_name(self.run.config.get("data", {})),
            "workers": {worker.worker: worker.jobs for worker in self.workers},
            "jobs": asdict(self.jobs),
            "checkpoint": asdict(self.checkpoint) if self.checkpoint else None,
            "tags": list(self.tags),
            "changes": asdict(self.changes) if self.changes else None,
            "evaluations": [asdict(evaluation) for evaluation in self.evaluations],
            "inner_curves": [asdict(curve) for curve in self.inner_curves],
            "inner_rates": [
                {"step": rates.step, "rates": rates.by_layer()} for rates in self.inner_rates
            ],
            "steps": [asdict(step) for step in self.steps],
            "engine": {
                "totals": [asdict(total) for total in self.attempt_totals],
                "degraded_steps": [step.step for step in self.steps if step.degraded],
                "attempts": [asdict(attempt) for attempt in self.attempts],
            },
        }
        cleaned: dict[str, Any] = without_nan(view)
        return cleaned


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences between the configuration of a run and another configuration.

    Attributes:
        origin: the source of the other configuration: "run UID", or "experiment NAME" for an
            experiment that comes with metafleet.
        keys: the keys whose values differ, with both values.
    """

    origin: str
    keys: tuple[Change, ...]

    @classmethod
    def read(cls, session: Connection, run: RunRecord) -> "Changes | None":
        """Compare a run with its parent; without a parent, with the shipped experiment of its name.

        Return None if the parent was deleted, or if the run has no parent and no shipped experiment
        has its name.
        """
        if run.parent_uid is not None:
            parent = RunRepository(session).find(run.parent_uid)
            if parent is None:
                return None
            return cls(f"run {parent.uid}", difference(parent.config, run.config))
        shipped = shipped_config(run.experiment)
        if shipped is None:
            return None
        return cls(f"experiment {run.experiment}", difference(shipped, run.config))


def without_nan(value: Any) -> Any:
    """Return JSON values in which not-a-number and infinity are null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
