"""The times of an attempt, computed from the durations that the database stores."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from metafleet.db.records import AttemptRecord, JobRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When an attempt was sent, started, ended and counted, in UTC; None if unknown.

    All times are by the clock of the Redis server, or by that of the orchestrator if the run has no
    fleet. For an attempt that did not count, ``counted_at`` is when the orchestrator dropped it.
    """

    sent_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    counted_at: datetime | None = None

    @classmethod
    def of(cls, row: JobRecord | AttemptRecord) -> Self:
        """Return the times of a row."""
        if row.sent_us is None:
            return cls()
        return cls(
            _EPOCH + timedelta(microseconds=row.sent_us),
            _at(row.sent_us, row.queue_wait_s),
            _at(row.sent_us, row.queue_wait_s + row.compute_s),
            _at(row.sent_us, row.round_trip_s),
        )


def _at(sent_us: int, after_s: float) -> datetime | None:
    if math.isnan(after_s):
        return None
    return _EPOCH + timedelta(microseconds=sent_us + round(after_s * 1e6))
