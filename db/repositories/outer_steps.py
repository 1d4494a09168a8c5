"""Outer steps: the learning curve."""

from sqlalchemy import func, select

from metafleet.db.records import OUTER_STEPS, DegradedSteps, OuterStepRecord
from metafleet.db.repositories.run_rows import RunRows
from metafleet.db.rowmap import read


class OuterStepRepository(RunRows[OuterStepRecord]):
    """Outer steps of runs."""

    table, record = OUTER_STEPS, OuterStepRecord

    def list(
        self, run_id: int, *, after_step: int = 0, limit: int | None = None
    ) -> tuple[OuterStepRecord, ...]:
        """Return the steps after ``after_step``, in order."""
        step = self.table.c.step
        query = self._select(run_id).where(step > after_step).order_by(step).limit(limit)
        return self._read(query)

    def seconds(self, run_id: int, *, until_step: int) -> float:
        """Return how many seconds the steps up to ``until_step`` took together."""
        columns = self.table.c
        query = select(func.coalesce(func.sum(columns.step_s), 0.0))
        query = query.where(columns.run_id == run_id, columns.step <= until_step)
        return float(self._session.execute(query).scalar_one())

    def count_degraded(self, run_id: int) -> DegradedSteps:
        """Count the steps that lack shards, and their missing episodes; zeros if there are none."""
        columns = self.table.c
        query = select(
            func.count().label("steps"),
            func.coalesce(func.sum(columns.missing_episodes), 0).label("missing_episodes"),
        ).where(columns.run_id == run_id, columns.degraded)
        return read(self._session, DegradedSteps, query)[0]
