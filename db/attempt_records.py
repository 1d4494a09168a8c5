"""What became of the attempts of shards: frozen values, as in ``db.records``."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from metafleet.db.records import utc_now


class Outcome(StrEnum):
    """What became of an attempt; the counters beside these are SENT and COUNTED.

    Each attempt is SENT once. It may meet with several of the others: one that was LOST, because
    its worker was silent, may still come LATE.
    """

    SENT = "sent"
    COUNTED = "counted"
    FAILED = "failed"
    """Its worker reported an error."""
    LOST = "lost"
    """Its message, its worker or the Redis that held it is gone."""
    REFUSED = "refused"
    """Its worker must not, or cannot, compute it."""
    REJECTED = "rejected"
    """A result came that is not what was asked for."""
    MISSING = "missing"
    """What it needs was not in the stores."""
    LATE = "late"
    """A result came when its shard or step was done."""
    CANCELLED = "cancelled"
    """Its worker stopped when it heard that another was first."""
    UNNEEDED = "unneeded"
    """Its message reached a worker when nobody waited for it any more, or a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt of a shard that did not count.

    Attributes:
        stream, step, shard: as in ``JobRecord``.
        epoch: the run's epoch under which it was sent, or found out.
        attempt: from 1; 0 when unknown.
        outcome: what became of it.
        reason: why, in a word that can be counted, such as "digest"; see ``docs/engine.md``.
        worker: "host:pid"; "" when unknown.
        detail: why, for people.
        queue_wait_s, compute_s: as in ``JobRecord``.
        created_at: when it was found out, UTC; a replay keeps the first time.
    """

    stream: str
    step: int
    epoch: int
    shard: int
    attempt: int
    outcome: str
    reason: str = ""
    worker: str = ""
    detail: str = ""
    queue_wait_s: float = math.nan
    compute_s: float = math.nan
    created_at: datetime = field(default_factory=utc_now, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCountRecord:
    """How many attempts met with an outcome for a reason.

    Attributes:
        epoch, stream: under which epoch of the run, in which stream of steps.
        outcome, reason: as in ``AttemptRecord``; of "sent": first, again or backup.
        n: how many so far; a later record of the same key replaces this one.
    """

    epoch: int
    stream: str
    outcome: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTotal:
    """How many attempts of a run met with an outcome for a reason, over all epochs and streams."""

    outcome: str
    reason: str
    n: int
