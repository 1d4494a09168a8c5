"""Jobs: the worker and the cost of each shard."""

from sqlalchemy import BigInteger, ColumnElement, case, cast, func, select

from metafleet.db.records import JOBS, JobRecord, JobTotals, WorkerJobs
from metafleet.db.repositories.run_rows import RunRows
from metafleet.db.rowmap import read

OK = "ok"


class JobRepository(RunRows[JobRecord]):
    """Jobs of runs."""

    table, record = JOBS, JobRecord

    def list(
        self, run_id: int, *, stream: str | None = None, step: int | None = None
    ) -> tuple[JobRecord, ...]:
        """Return jobs in the order of stream, step and shard."""
        columns = self.table.c
        query = self._select(run_id).order_by(columns.stream, columns.step, columns.shard)
        if stream is not None:
            query = query.where(columns.stream == stream)
        if step is not None:
            query = query.where(columns.step == step)
        return self._read(query)

    def has_times(self, run_id: int) -> bool:
        """Return whether it is known of a job of the run when it was sent."""
        timed = select(1).where(JOBS.c.run_id == run_id, JOBS.c.sent_us.is_not(None))
        return self._session.scalar(timed.limit(1)) is not None

    def count_by_worker(self, run_id: int) -> tuple[WorkerJobs, ...]:
        """Return the totals of jobs with outcome "ok", by worker and device."""
        worker, device = JOBS.c.worker, JOBS.c.device
        query = (
            select(
                worker,
                device,
                func.count().label("jobs"),
                func.sum(JOBS.c.episodes).label("episodes"),
                func.coalesce(func.sum(JOBS.c.compute_s), 0.0).label("compute_s"),
            )
            .where(JOBS.c.run_id == run_id, JOBS.c.outcome == OK)
            .group_by(worker, device)
            .order_by(worker, device)
        )
        return read(self._session, WorkerJobs, query)

    def totals(self, run_id: int) -> JobTotals:
        """Return the totals over all jobs of a run; zeros if it has none."""
        query = select(
            func.count().label("jobs"),
            _count(JOBS.c.attempt > 1).label("retried"),
            func.coalesce(func.sum(JOBS.c.episodes), 0).label("episodes"),
            func.coalesce(func.sum(JOBS.c.queue_wait_s), 0.0).label("queue_wait_s"),
            func.coalesce(func.sum(JOBS.c.compute_s), 0.0).label("compute_s"),
            _total_bytes().label("payload_bytes"),
        ).where(JOBS.c.run_id == run_id)
        return read(self._session, JobTotals, query)[0]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _total_bytes() -> ColumnElement[int]:
    # PostgreSQL sums bigint to numeric, which would come back as Decimal
    return cast(func.coalesce(func.sum(JOBS.c.payload_bytes), 0), BigInteger)
