"""The outcomes of attempts of shards: records and tables."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

from sqlalchemy import BigInteger, String

from metafleet.db.records.runs import utc_now
from metafleet.db.records.steps import SPLIT_LENGTH
from metafleet.db.records.table import table_of_run
from metafleet.db.types import CompressedText, Line, Real

_OUTCOME_LENGTH: Final = 16
_REASON_LENGTH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt to compute a shard. The result of the attempt was not used.

    Attributes:
        stream, step, shard: as in ``JobRecord``.
        epoch: epoch of the run when the attempt was sent, or when its outcome became known.
        attempt: number of the attempt, from 1; 0 if unknown.
        outcome: outcome of the attempt, see ``attempt_outcomes.AttemptOutcome``.
        reason: the reason as a label for counters, for example "digest"; see
            ``attempt_outcomes.REASONS``.
        worker: "host:pid"; "" if unknown.
        detail: the reason as readable text.
        queue_wait_s, compute_s, sent_us: as in ``JobRecord``. For an attempt that was not needed,
            ``queue_wait_s`` ends when a worker read its message.
        round_trip_s: seconds from sending until the orchestrator dropped the attempt; NaN if a
            worker dropped it.
        created_at: when the outcome became known, UTC. If the record is written again, the first
            time is kept.
    """

    stream: Annotated[str, String(SPLIT_LENGTH)]
    step: int
    epoch: int
    shard: int
    attempt: int
    outcome: Annotated[str, String(_OUTCOME_LENGTH)]
    reason: Annotated[str, Line(_REASON_LENGTH)] = ""
    worker: Annotated[str, Line(255)] = ""
    detail: Annotated[str, Line(500)] = ""
    queue_wait_s: Annotated[float, Real] = math.nan
    compute_s: Annotated[float, Real] = math.nan
    sent_us: Annotated[int, BigInteger] | None = None
    round_trip_s: Annotated[float, Real] = math.nan
    created_at: datetime = field(default_factory=utc_now, compare=False)


ATTEMPTS = table_of_run(
    "attempts", AttemptRecord, key=("stream", "step", "epoch", "shard", "attempt", "outcome")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCountRecord:
    """The number of attempts with the same outcome and reason.

    Attributes:
        epoch, stream: the epoch of the run and the stream of steps.
        outcome, reason: as in ``AttemptRecord``. The reasons for the outcome "sent" are "first",
            "again" and "backup".
        n: number of attempts so far; a later record with the same key replaces this one.
    """

    epoch: int
    stream: Annotated[str, String(SPLIT_LENGTH)]
    outcome: Annotated[str, String(_OUTCOME_LENGTH)]
    reason: Annotated[str, String(_REASON_LENGTH)]
    n: Annotated[int, BigInteger]


ATTEMPT_COUNTS = table_of_run(
    "attempt_counts", AttemptCountRecord, key=("epoch", "stream", "outcome", "reason")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLogRecord:
    """The last lines that a worker logged during one attempt.

    Attributes:
        stream, step, epoch, shard, attempt, worker: as in ``AttemptRecord``.
        text: the lines, without secrets and control characters.
        created_at: as in ``AttemptRecord``.
    """

    stream: Annotated[str, String(SPLIT_LENGTH)]
    step: int
    epoch: int
    shard: int
    attempt: int
    worker: Annotated[str, Line(255)]
    text: Annotated[str, CompressedText]
    created_at: datetime = field(default_factory=utc_now, compare=False)


ATTEMPT_LOGS = table_of_run(
    "attempt_logs", AttemptLogRecord, key=("stream", "step", "epoch", "shard", "attempt")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTotal:
    """How many attempts of a run had an outcome for a reason, over all epochs and streams."""

    outcome: str
    reason: str
    n: int
