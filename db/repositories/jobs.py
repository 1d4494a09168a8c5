"""Jobs: who computed what, and what it cost."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, ColumnElement, case, cast, func, select
from sqlalchemy.orm import Session

from metafleet.db.models import Job
from metafleet.db.records import JobRecord, JobTotals, WorkerJobs
from metafleet.db.rowmap import select_fields, to_record, to_row
from metafleet.db.upsert import upsert

OK = "ok"
_TABLE = Job.metadata.tables["jobs"]


class JobRepository:
    """Jobs of runs. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def upsert_many(
        self, run_id: int, records: Iterable[JobRecord], *, overwrite: bool = True
    ) -> None:
        """Write jobs; one that is there is replaced, or kept when ``overwrite`` is False."""
        rows = [to_row(run_id, record) for record in records]
        upsert(self._session, _TABLE, rows, overwrite=overwrite)

    def list(
        self, run_id: int, *, stream: str | None = None, step: int | None = None
    ) -> tuple[JobRecord, ...]:
        """Return jobs in the order of stream, step and shard."""
        query = (
            select_fields(_TABLE, JobRecord)
            .where(_TABLE.c.run_id == run_id)
            .order_by(_TABLE.c.stream, _TABLE.c.step, _TABLE.c.shard)
        )
        if stream is not None:
            query = query.where(_TABLE.c.stream == stream)
        if step is not None:
            query = query.where(_TABLE.c.step == step)
        return tuple(to_record(JobRecord, row) for row in self._session.execute(query))

    def count_by_worker(self, run_id: int) -> tuple[WorkerJobs, ...]:
        """Return what each worker did with outcome "ok", by worker and device."""
        worker, device = _TABLE.c.worker, _TABLE.c.device
        query = (
            select(
                worker,
                device,
                func.count().label("jobs"),
                func.sum(_TABLE.c.episodes).label("episodes"),
                func.coalesce(func.sum(_TABLE.c.compute_s), 0.0).label("compute_s"),
            )
            .where(_TABLE.c.run_id == run_id, _TABLE.c.outcome == OK)
            .group_by(worker, device)
            .order_by(worker, device)
        )
        return tuple(to_record(WorkerJobs, row) for row in self._session.execute(query))

    def totals(self, run_id: int) -> JobTotals:
        """Return the sums over all jobs of a run; zeros when it has none."""
        query = select(
            func.count().label("jobs"),
            _count(_TABLE.c.attempt > 1).label("retried"),
            func.coalesce(func.sum(_TABLE.c.episodes), 0).label("episodes"),
            func.coalesce(func.sum(_TABLE.c.queue_wait_s), 0.0).label("queue_wait_s"),
            func.coalesce(func.sum(_TABLE.c.compute_s), 0.0).label("compute_s"),
            _total_bytes().label("payload_bytes"),
        ).where(_TABLE.c.run_id == run_id)
        return to_record(JobTotals, self._session.execute(query).one())


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _total_bytes() -> ColumnElement[int]:
    # PostgreSQL sums bigint to numeric, which would come back as Decimal
    return cast(func.coalesce(func.sum(_TABLE.c.payload_bytes), 0), BigInteger)
