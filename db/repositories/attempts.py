"""Attempts: counts by outcome and reason, and samples of those that did not count."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Select, Table, cast, func, select, true

from metafleet.db.records import (
    ATTEMPT_COUNTS,
    ATTEMPT_LOGS,
    ATTEMPTS,
    AttemptCountRecord,
    AttemptLogRecord,
    AttemptRecord,
    AttemptTotal,
)
from metafleet.db.repositories.run_rows import RunRows
from metafleet.db.rowmap import read


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Selects attempts by stream, step and shard; None selects all."""

    stream: str | None = None
    step: int | None = None
    shard: int | None = None


_ALL: Final = AttemptFilter()


class AttemptRepository(RunRows[AttemptRecord]):
    """Attempts of runs that did not count."""

    table, record, keeps = ATTEMPTS, AttemptRecord, ("created_at",)

    def list(
        self, run_id: int, of: AttemptFilter = _ALL, *, limit: int | None = None
    ) -> tuple[AttemptRecord, ...]:
        """Return the newest ``limit`` attempts, or all, in the order in which they were found."""
        return self._read(_newest(self._select(run_id), self.table, of, limit))[::-1]


class AttemptLogRepository(RunRows[AttemptLogRecord]):
    """Log lines of attempts of runs."""

    table, record, keeps = ATTEMPT_LOGS, AttemptLogRecord, ("created_at",)

    def list(
        self, run_id: int, of: AttemptFilter = _ALL, *, limit: int | None = None
    ) -> tuple[AttemptLogRecord, ...]:
        """Return the logs of the newest ``limit`` attempts, or of all, the oldest first."""
        return self._read(_newest(self._select(run_id), self.table, of, limit))[::-1]


def _newest(query: Select[Any], table: Table, of: AttemptFilter, limit: int | None) -> Select[Any]:
    columns = table.c
    for name in ("stream", "step", "shard"):
        if (value := getattr(of, name)) is not None:
            query = query.where(columns[name] == value)
    order = (columns.created_at.desc(), columns.step.desc(), columns.shard.desc())
    return query.order_by(*order, columns.attempt.desc()).limit(limit)


class AttemptCountRepository(RunRows[AttemptCountRecord]):
    """Counters of attempts of runs."""

    table, record = ATTEMPT_COUNTS, AttemptCountRecord

    def totals(self, run_id: int | None = None) -> tuple[AttemptTotal, ...]:
        """Return the counts of a run, or of all runs, ordered by outcome and reason.

        They are summed over epochs and streams.
        """
        outcome, reason = self.table.c.outcome, self.table.c.reason
        query = (
            # PostgreSQL sums bigint to numeric, which would come back as Decimal
            select(outcome, reason, cast(func.sum(self.table.c.n), BigInteger).label("n"))
            .where(true() if run_id is None else self.table.c.run_id == run_id)
            .group_by(outcome, reason)
            .order_by(outcome, reason)
        )
        return read(self._session, AttemptTotal, query)
