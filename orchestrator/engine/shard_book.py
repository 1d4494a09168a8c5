"""Accounts for every shard of one step: sent, started, lost, failed, done. No I/O, no clock."""

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

from metafleet.errors import FleetError, ShardQuarantinedError

QUEUE_GRACE_S: Final = 1.5
"""How long an attempt may be neither queued nor started before its message counts as lost."""

REFUSAL_PAUSE_S: Final = 0.25
"""How long to wait before offering a refused shard again, so that another worker gets it."""


@dataclass(frozen=True, slots=True)
class FleetView:
    """What Redis showed at one moment.

    Attributes:
        started: (shard, attempt) that some worker has begun.
        leased: (shard, attempt) whose lease is being renewed.
        committed: shards with a committed result, which may still be on its way to us.
        is_queue_empty: True when no message waits in the queue.
        workers_alive: workers that listen to the queue.
    """

    started: Set[tuple[int, int]]
    leased: Set[tuple[int, int]]
    committed: Set[int]
    is_queue_empty: bool
    workers_alive: int


@dataclass(slots=True)
class _Entry:
    attempt: int = -1
    sequence: int = -1
    is_done: bool = False
    missing_since_s: float | None = None
    send_at_s: float | None = None
    refusals: int = 0
    reasons: list[str] = field(default_factory=list)


class ShardBook:
    """The state of every shard of one step.

    Args:
        name: the step's name for messages, such as "train step 12".
        n_shards: number of shards.
        max_attempts: how often a shard may fail or lose its worker.
    """

    def __init__(self, name: str, n_shards: int, max_attempts: int) -> None:
        self._name = name
        self._max_attempts = max_attempts
        self._entries = [_Entry() for _ in range(n_shards)]
        self._n_sent = 0
        self._n_open = n_shards

    @property
    def is_complete(self) -> bool:
        """True when every shard is done."""
        return self._n_open == 0

    @property
    def retries(self) -> int:
        """Attempts beyond the first, over all shards."""
        return sum(max(0, entry.attempt) for entry in self._entries)

    @property
    def open_shards(self) -> list[int]:
        """Shards that are not done."""
        return [index for index, entry in enumerate(self._entries) if not entry.is_done]

    def open_attempts(self) -> list[tuple[int, int]]:
        """(shard, latest attempt) of the shards that are not done."""
        return [(index, self._entries[index].attempt) for index in self.open_shards]

    def is_done(self, shard: int) -> bool:
        """Tell whether a shard has been counted."""
        return self._entries[shard].is_done

    def next_attempt(self, shard: int) -> int:
        """Open a new attempt of a shard, about to be sent; returns its number."""
        entry = self._entries[shard]
        entry.attempt += 1
        entry.sequence = self._n_sent
        entry.missing_since_s = entry.send_at_s = None
        self._n_sent += 1
        return entry.attempt

    def mark_done(self, shard: int) -> None:
        """Count a shard; once."""
        if not self._entries[shard].is_done:
            self._entries[shard].is_done = True
            self._n_open -= 1

    def mark_failed(self, shard: int, reason: str, *, now_s: float) -> None:
        """Note that an attempt failed; the shard is due again.

        Raises:
            ShardQuarantinedError: it has failed as often as it may.
        """
        entry = self._entries[shard]
        entry.reasons.append(reason)
        if len(entry.reasons) >= self._max_attempts:
            raise ShardQuarantinedError(
                f"shard {shard} of {self._name} failed {len(entry.reasons)} times "
                f"({'; '.join(dict.fromkeys(entry.reasons))}); mend the cause, then "
                "continue with `metafleet runs resume`"
            )
        entry.send_at_s = now_s

    def mark_refused(self, shard: int, reason: str, *, now_s: float, workers_alive: int) -> None:
        """Note that a worker must not compute a shard; it is offered to others.

        Raises:
            FleetError: as good as every worker has refused it.
        """
        entry = self._entries[shard]
        entry.refusals += 1
        if entry.refusals > 3 + 2 * workers_alive:
            raise FleetError(
                f"shard {shard} of {self._name} was refused {entry.refusals} times; {reason}"
            )
        entry.send_at_s = now_s + REFUSAL_PAUSE_S

    def review(self, view: FleetView, *, now_s: float) -> list[int]:
        """Compare with what Redis shows; returns the shards to be sent (again) now.

        Raises:
            ShardQuarantinedError: a shard lost its worker as often as it may.
        """
        begun = [shard for shard, attempt in view.started if self._attempt(shard) == attempt]
        newest_started = max((self._entries[shard].sequence for shard in begun), default=-1)
        due = []
        for shard in self.open_shards:
            if shard in view.committed:
                continue
            entry = self._entries[shard]
            if entry.send_at_s is None:
                self._look_at(shard, view, newest_started, now_s)
            if entry.send_at_s is not None and entry.send_at_s <= now_s:
                due.append(shard)
        return due

    def _attempt(self, shard: int) -> int:
        return self._entries[shard].attempt if shard < len(self._entries) else -1

    def _look_at(self, shard: int, view: FleetView, newest_started: int, now_s: float) -> None:
        entry = self._entries[shard]
        latest = (shard, entry.attempt)
        if latest in view.started:
            if latest not in view.leased:
                self.mark_failed(shard, "its worker died or hung", now_s=now_s)
            return
        # Queues are first in, first out: a message that a later one has overtaken is gone.
        is_missing = view.is_queue_empty or newest_started > entry.sequence
        if not is_missing or view.workers_alive == 0:
            entry.missing_since_s = None
        elif entry.missing_since_s is None:
            entry.missing_since_s = now_s
        elif now_s - entry.missing_since_s >= QUEUE_GRACE_S:
            entry.send_at_s = now_s
