"""Attempts: counts by outcome and reason, and samples of those that did not count."""

from sqlalchemy import BigInteger, cast, func, select

from metafleet.db.records import (
    ATTEMPT_COUNTS,
    ATTEMPTS,
    AttemptCountRecord,
    AttemptRecord,
    AttemptTotal,
)
from metafleet.db.repositories.run_rows import RunRows
from metafleet.db.rowmap import read


class AttemptRepository(RunRows[AttemptRecord]):
    """Attempts of runs that did not count."""

    table, record, keeps = ATTEMPTS, AttemptRecord, ("created_at",)

    def list(self, run_id: int, *, limit: int | None = None) -> tuple[AttemptRecord, ...]:
        """Return the newest ``limit`` attempts, or all, in the order in which they were found."""
        columns = self.table.c
        order = (columns.created_at.desc(), columns.step.desc(), columns.shard.desc())
        newest = self._select(run_id).order_by(*order).limit(limit)
        return self._read(newest)[::-1]


class AttemptCountRepository(RunRows[AttemptCountRecord]):
    """Counters of attempts of runs."""

    table, record = ATTEMPT_COUNTS, AttemptCountRecord

    def totals(self, run_id: int) -> tuple[AttemptTotal, ...]:
        """Return the counts summed over epochs and streams, ordered by outcome and reason."""
        outcome, reason = self.table.c.outcome, self.table.c.reason
        query = (
            # PostgreSQL sums bigint to numeric, which would come back as Decimal
            select(outcome, reason, cast(func.sum(self.table.c.n), BigInteger).label("n"))
            .where(self.table.c.run_id == run_id)
            .group_by(outcome, reason)
            .order_by(outcome, reason)
        )
        return read(self._session, AttemptTotal, query)
