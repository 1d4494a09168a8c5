"""Attempts that did not count: how many and why, and samples of them."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.orm import Session

from metafleet.db.attempt_records import AttemptCountRecord, AttemptRecord, AttemptTotal
from metafleet.db.models import Attempt, AttemptCount
from metafleet.db.rowmap import select_fields, to_record, to_row
from metafleet.db.upsert import upsert

_TABLE = Attempt.metadata.tables["attempts"]
_COUNTS = AttemptCount.metadata.tables["attempt_counts"]


class AttemptRepository:
    """Attempts of runs that did not count. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def upsert_many(
        self, run_id: int, records: Iterable[AttemptRecord], *, overwrite: bool = True
    ) -> None:
        """Write attempts; one that is there is replaced, or kept when ``overwrite`` is False."""
        rows = [to_row(run_id, record) for record in records]
        upsert(self._session, _TABLE, rows, overwrite=overwrite, keep=("created_at",))

    def list(self, run_id: int, *, limit: int | None = None) -> tuple[AttemptRecord, ...]:
        """Return the newest ``limit`` attempts, or all, in the order in which they were noticed."""
        columns = _TABLE.c
        newest = (
            select_fields(_TABLE, AttemptRecord)
            .where(columns.run_id == run_id)
            .order_by(columns.created_at.desc(), columns.step.desc(), columns.shard.desc())
            .limit(limit)
        )
        found = [to_record(AttemptRecord, row) for row in self._session.execute(newest)]
        return tuple(reversed(found))


class AttemptCountRepository:
    """Counters of attempts of runs. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def upsert_many(
        self, run_id: int, records: Iterable[AttemptCountRecord], *, overwrite: bool = True
    ) -> None:
        """Set counters; one that is there is replaced, or kept when ``overwrite`` is False."""
        rows = [to_row(run_id, record) for record in records]
        upsert(self._session, _COUNTS, rows, overwrite=overwrite)

    def totals(self, run_id: int) -> tuple[AttemptTotal, ...]:
        """Sum up over epochs and streams, in the order of outcome and reason."""
        outcome, reason = _COUNTS.c.outcome, _COUNTS.c.reason
        query = (
            # PostgreSQL sums bigint to numeric, which would come back as Decimal
            select(outcome, reason, cast(func.sum(_COUNTS.c.n), BigInteger).label("n"))
            .where(_COUNTS.c.run_id == run_id)
            .group_by(outcome, reason)
            .order_by(outcome, reason)
        )
        return tuple(to_record(AttemptTotal, row) for row in self._session.execute(query))
