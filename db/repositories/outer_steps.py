"""Outer steps: the learning curve."""

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metafleet.db.models import OuterStep
from metafleet.db.records import DegradedSteps, OuterStepRecord
from metafleet.db.rowmap import select_fields, to_record, to_row
from metafleet.db.upsert import upsert

_TABLE = OuterStep.metadata.tables["outer_steps"]


class OuterStepRepository:
    """Outer steps of runs. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def upsert_many(
        self, run_id: int, records: Iterable[OuterStepRecord], *, overwrite: bool = True
    ) -> None:
        """Write steps; one that is there is replaced, or kept when ``overwrite`` is False."""
        rows = [to_row(run_id, record) for record in records]
        upsert(self._session, _TABLE, rows, overwrite=overwrite)

    def list(
        self, run_id: int, *, after_step: int = 0, limit: int | None = None
    ) -> tuple[OuterStepRecord, ...]:
        """Return steps in order, those after ``after_step``."""
        query = (
            select_fields(_TABLE, OuterStepRecord)
            .where(_TABLE.c.run_id == run_id, _TABLE.c.step > after_step)
            .order_by(_TABLE.c.step)
            .limit(limit)
        )
        return tuple(to_record(OuterStepRecord, row) for row in self._session.execute(query))

    def count_degraded(self, run_id: int) -> DegradedSteps:
        """Sum up the steps that went on without all their shards; zeros when none did."""
        query = select(
            func.count().label("steps"),
            func.coalesce(func.sum(_TABLE.c.missing_episodes), 0).label("missing_episodes"),
        ).where(_TABLE.c.run_id == run_id, _TABLE.c.degraded)
        return to_record(DegradedSteps, self._session.execute(query).one())
