"""The rows of a run in the database, for sinks."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from metafleet.db.engine import Database
from metafleet.db.records import CheckpointRecord, EvaluationRecord, RunRecord
from metafleet.db.repositories import (
    CheckpointRepository,
    EvaluationRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.tracking.records import Mark, Row, TableName, TrackedRun

STEPS_AT_ONCE: Final = 1_000


class RunSource:
    """Reads the committed rows of one run. Not thread-safe.

    Args:
        database: an open database, which is only read.
        uid: the run's uid.
    """

    def __init__(self, database: Database, uid: str) -> None:
        self._database, self._uid = database, uid

    def run(self) -> TrackedRun:
        """Read the run."""
        with self._database.session(read_only=True) as session:
            return _tracked(RunRepository(session).get(self._uid))

    def rows(self, mark: Mark) -> Sequence[Row]:
        """Read at most a thousand steps, and the evaluations and checkpoints up to there."""
        with self._database.session(read_only=True) as session:
            run = RunRepository(session).get(self._uid)
            repository = OuterStepRepository(session)
            steps = repository.list(run.id, after_step=mark.step, limit=STEPS_AT_ONCE)
            before_s = repository.seconds(run.id, until_step=mark.step) if steps else 0.0
            evaluations = EvaluationRepository(session).list(run.id)
            checkpoints = CheckpointRepository(session).list(run.id)
        at = (run.started_at or run.created_at) + timedelta(seconds=before_s)
        rows = []
        for step in steps:
            at += timedelta(seconds=step.step_s)
            rows.append(Row(table="steps", step=step.step, values=asdict(step), at=at))
        others = [
            *(_row("evaluations", one) for one in evaluations),
            *(_row("checkpoints", one) for one in reversed(checkpoints)),
        ]
        # rows of later steps wait until these steps are sent
        last = steps[-1].step if len(steps) == STEPS_AT_ONCE else math.inf
        return rows + [row for row in others if row.step <= last and not mark.has(row)]


def _row(table: TableName, record: EvaluationRecord | CheckpointRecord) -> Row:
    return Row(table=table, step=record.step, values=asdict(record), at=record.created_at)


def _tracked(run: RunRecord) -> TrackedRun:
    return TrackedRun(
        uid=run.uid,
        name=run.name,
        experiment=run.experiment,
        seed=run.seed,
        config=run.config,
        status=run.status.value,
        steps_done=run.steps_done,
        error=run.error,
        started_at=run.started_at or run.created_at,
        ended_at=run.finished_at,
    )
