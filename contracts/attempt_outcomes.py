"""The outcomes of an attempt of a shard, and their reasons, as labels for counters."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class AttemptOutcome(StrEnum):
    """The outcome of an attempt.

    SENT and COUNTED are not failures, but they have counters too. Each attempt is SENT once. After
    that, an attempt may have several of the other outcomes. For example, if the worker of an
    attempt is silent, the attempt is LOST. If the result of this attempt arrives later, the attempt
    is also LATE.
    """

    SENT = "sent"
    COUNTED = "counted"
    FAILED = "failed"
    """Its worker reported an error."""
    LOST = "lost"
    """Its message, its worker or the Redis server that held it is gone."""
    REFUSED = "refused"
    """Its worker must not compute it, or cannot."""
    REJECTED = "rejected"
    """Its result does not match the request."""
    MISSING = "missing"
    """A blob that it needs was not in the stores."""
    LATE = "late"
    """Its result came after its shard or step was done."""
    CANCELLED = "cancelled"
    """Its worker stopped because another attempt finished first."""
    UNNEEDED = "unneeded"
    """Its message reached a worker too late, or for the second time."""


class AttemptReason(StrEnum):
    """The reason for an outcome. Each ``ContractError.reason`` is one of these."""

    FIRST = "first"
    AGAIN = "again"
    BACKUP = "backup"

    ERROR = "error"
    IMPURE = "impure"
    NON_FINITE = "non_finite"

    WORKER = "worker"
    HUNG = "hung"
    MESSAGE = "message"
    EPOCH = "epoch"

    FINGERPRINT = "fingerprint"
    DATA = "data"
    CONFIG = "config"
    STORE = "store"

    CONTRACT = "contract"
    DIGEST = "digest"
    LENGTH = "length"
    OVERSIZED = "oversized"
    PROTOCOL = "protocol"
    SCHEMA = "schema"
    SIGNATURE = "signature"
    STALE = "stale"
    MISSING_BLOB = "missing_blob"
    MISSING_DATA = "missing_data"

    DONE = "done"
    CLOSED = "closed"
    TAKEN = "taken"
    UNWANTED = "unwanted"


def _all(words: str) -> frozenset[AttemptReason]:
    return frozenset(map(AttemptReason, words.split()))


_UNSOUND: Final = _all("contract digest length non_finite oversized protocol schema signature")
REASONS: Final[Mapping[AttemptOutcome, frozenset[AttemptReason]]] = {
    AttemptOutcome.SENT: _all("first again backup"),
    AttemptOutcome.COUNTED: frozenset(),
    AttemptOutcome.FAILED: _UNSOUND | _all("error impure"),
    AttemptOutcome.LOST: _all("worker hung message epoch"),
    AttemptOutcome.REFUSED: _all("fingerprint data config store"),
    AttemptOutcome.REJECTED: _UNSOUND | _all("fingerprint stale missing_blob"),
    AttemptOutcome.MISSING: _all("missing_blob missing_data"),
    AttemptOutcome.LATE: _all("done closed stale"),
    AttemptOutcome.CANCELLED: _all("unwanted"),
    AttemptOutcome.UNNEEDED: _all("done closed stale taken"),
}
"""Outcome -> its possible reasons."""
