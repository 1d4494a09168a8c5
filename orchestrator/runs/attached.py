"""Watches a run that another process executes, through its rows in the database."""

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from metafleet.data.scoring import score_name
from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord, OuterStepRecord, RunRecord, RunStatus
from metafleet.db.repositories import (
    EvaluationRepository,
    JobRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.runs.launch import RunReport
from metafleet.orchestrator.runs.process_name import has_died
from metafleet.orchestrator.training.events import EvaluationDone, Observer, RunStarted, StepDone

_LOOK_EVERY_S: Final = 0.5
_STEPS_AT_ONCE: Final = 1000


class AttachedRun:
    """Follows a run, which another process executes, until the run ends.

    Args:
        database: an open database, which is only read.
        run: the run.
        observer: receives the run's new events each time the database is polled.
    """

    def __init__(self, database: Database, run: RunRecord, observer: Observer) -> None:
        self._database, self._observer = database, observer
        self._run = run
        self._step = run.steps_done
        self._judged: set[tuple[object, ...]] = set()
        self._said = ""

    def follow(self, pause: Callable[[float], None] = time.sleep) -> RunRecord:
        """Poll every half second until the run has ended; return its final record."""
        self._judged = {_key(e) for e in self._read_evaluations()}
        run = self._run
        self._observer.on_start(
            RunStarted(run_id=run.id, name=run.name, first_step=self._step, n_steps=run.n_steps)
        )
        is_away = False
        while True:
            try:
                self._look()
            except DatabaseUnavailableError as error:
                if not is_away:
                    self._observer.on_notice(f"{error}; waiting for it to come back")
                is_away = True
            else:
                is_away = False
                if self._run.status.is_final:
                    return self._run
            pause(_LOOK_EVERY_S)

    def _look(self) -> None:
        with self._database.session(read_only=True) as session:
            # read the status first: once it is final, all rows are there
            run = RunRepository(session).get(self._run.id)
            steps = OuterStepRepository(session).list(
                run.id, after_step=self._step, limit=_STEPS_AT_ONCE
            )
        self._run = run
        self._say_where()
        evaluations = [e for e in self._read_evaluations() if _key(e) not in self._judged]
        for step in steps:
            self._step = step.step
            self._observer.on_step(_step_done(step, run))
        for evaluation in evaluations:
            self._judged.add(_key(evaluation))
            self._observer.on_evaluation(evaluation_done(evaluation, run))

    def _say_where(self) -> None:
        """Report who executes the run if that changed, or that it ended between two polls."""
        run = self._run
        if run.status is RunStatus.QUEUED:
            said = "waiting in the queue"
        elif run.status is RunStatus.RUNNING and run.owner:
            said = f"executed by {run.owner.split('/')[0]} at epoch {run.epoch}"
            if has_died(run.owner):
                said += ", which died: it waits for a server (`metafleet serve`)"
        elif run.status.is_final and run.epoch and not self._said.startswith("executed"):
            said = f"executed at epoch {run.epoch}, and {run.status.value} since"
        else:
            return
        if said != self._said:
            self._observer.on_notice(f"run {run.id}: {said}")
            self._said = said

    def _read_evaluations(self) -> tuple[EvaluationRecord, ...]:
        with self._database.session(read_only=True) as session:
            return EvaluationRepository(session).list(self._run.id)


def report_of(database: Database, run: RunRecord) -> RunReport:
    """Build a finished run's report from its rows; equal to that of the executing process."""
    with database.session(read_only=True) as session:
        by_worker = JobRepository(session).count_by_worker(run.id)
        tests = EvaluationRepository(session).list(run.id, split="meta_test")
        degraded = OuterStepRepository(session).count_degraded(run.id)
    began, ended = run.started_at, run.finished_at
    return RunReport(
        run_id=run.id,
        status=run.status.value,
        steps=run.steps_done,
        checkpoint_sha256=run.checkpoint_sha256 or "",
        evaluations=tuple(evaluation_done(test, run) for test in tests),
        workers=tuple(sorted({entry.worker for entry in by_worker})),
        wall_s=(ended - began).total_seconds() if began and ended else 0.0,
        degraded_steps=degraded.steps,
        missing_episodes=degraded.missing_episodes,
    )


def evaluation_done(record: EvaluationRecord, run: RunRecord) -> EvaluationDone:
    """Convert a row of a run to its event."""
    return EvaluationDone(**_values(EvaluationDone, record, run))


def _step_done(record: OuterStepRecord, run: RunRecord) -> StepDone:
    return StepDone(**_values(StepDone, record, run))


def _values(
    event: type[EvaluationDone | StepDone],
    record: EvaluationRecord | OuterStepRecord,
    run: RunRecord,
) -> dict[str, Any]:
    """Return the fields of an event: those of its row, and the name of the run's score."""
    named = {"metric": score_name(run.config.get("data", {}))}
    shared = (f.name for f in fields(event) if f.name not in named)
    return named | {name: getattr(record, name) for name in shared}


def _key(evaluation: EvaluationRecord) -> tuple[object, ...]:
    return (evaluation.step, evaluation.split, evaluation.label, evaluation.episodes)
