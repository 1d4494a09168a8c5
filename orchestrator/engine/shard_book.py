"""Accounts for every shard of one step: sent, started, slow, lost, failed, done. No I/O."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.errors import FleetError, ShardQuarantinedError

QUEUE_GRACE_S: Final = 1.5
"""How long an attempt may be neither queued nor started before its message counts as lost."""

OVERTAKEN_BY_US: Final = 1_000_000
"""How much later a message of another run must have been sent to overtake ours: two runs that send
at the same moment may do so in another order than they read the clock."""

REFUSAL_PAUSE_S: Final = 0.25
"""How long to wait before offering a refused shard again, so that another worker gets it."""

STRAGGLERS_AFTER: Final = 0.8
"""Share of a step's shards that must be done before the slowest get a backup."""

STRAGGLER_FACTOR: Final = 2.0
"""A shard is slow when it takes so many times the median."""

STRAGGLER_FLOOR_S: Final = 1.0
"""No shard is slow before this: a backup of a short job costs more than it saves."""

_SEEN_WITHIN_S: Final = 10.0
"""How long ago a worker was last seen alive whose end is known to be that of its deadline."""

BACKUP_BUDGET: Final = 0.1
"""Backups allowed in a step, as a share of its shards; at least one."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """What Redis showed of a queue at one moment.

    Attributes:
        is_empty: True when no message waits in it.
        workers_alive: workers that listen to it.
        newest_started_us: when, by Redis's clock, the newest of its messages that has begun was
            sent, whichever run's it is; 0 when unknown.
    """

    is_empty: bool
    workers_alive: int
    newest_started_us: int = 0


@dataclass(frozen=True, slots=True)
class FleetView:
    """What Redis showed at one moment.

    Attributes:
        started: (shard, attempt) that some worker has begun.
        leased: (shard, attempt) whose lease is being renewed.
        committed: shards with a committed result, which may still be on its way to us.
        queues: the run's queues, by name.
    """

    started: Set[tuple[int, int]]
    leased: Set[tuple[int, int]]
    committed: Set[int]
    queues: Mapping[str, QueueView]

    @property
    def has_workers(self) -> bool:
        """True when a worker listens to any of the queues."""
        return any(queue.workers_alive for queue in self.queues.values())


@dataclass(slots=True)
class _Attempt:
    """An attempt that may still bring a result."""

    sequence: int
    sent_us: int
    queue: str
    started_s: float | None = None
    shown_s: float = 0.0  # when it began or was last seen to be alive
    missing_since_s: float | None = None


@dataclass(slots=True)
class _Shard:
    live: dict[int, _Attempt] = field(default_factory=dict)
    n_attempts: int = 0
    last_queue: str = ""
    is_on_its_way: bool = False
    is_done: bool = False
    due_s: float | None = None
    refusals: int = 0
    refused_by: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    def forget(self, attempt: int | None) -> None:
        """Expect nothing more of an attempt; of any, for None."""
        if attempt is None:
            self.live.clear()
        else:
            self.live.pop(attempt, None)


class ShardBook:
    """The state of every shard of one step.

    Args:
        name: the step's name for messages, such as "train step 12".
        n_shards: number of shards.
        max_attempts: how often a shard may fail or lose its worker.
        job_deadline_s: how long an attempt may take; a worker keeps no lease for longer.
        on_lost: told (shard, attempt, why) of each attempt that is lost.
    """

    def __init__(
        self,
        name: str,
        n_shards: int,
        max_attempts: int,
        *,
        job_deadline_s: float = math.inf,
        on_lost: Callable[[int, int, AttemptReason], None] = lambda _shard, _attempt, _what: None,
    ) -> None:
        self._on_lost = on_lost
        self._name = name
        self._max_attempts, self._job_deadline_s = max_attempts, job_deadline_s
        self._shards = [_Shard() for _ in range(n_shards)]
        self._n_sent = 0
        self._n_open = n_shards
        self._unsent = dict.fromkeys(range(n_shards))  # a set that keeps its order
        self._most_backups = max(1, math.ceil(BACKUP_BUDGET * n_shards))
        self._compute_s: list[float] = []
        self._n_sent_to: Counter[str] = Counter()
        self.backups = 0
        """Attempts sent because another was slow."""

    @property
    def is_complete(self) -> bool:
        """True when every shard is done."""
        return self._n_open == 0

    @property
    def done_fraction(self) -> float:
        """Share of the shards that are done, in [0, 1]."""
        return 1.0 - self._n_open / len(self._shards)

    @property
    def retries(self) -> int:
        """Attempts beyond the first, over all shards."""
        return sum(max(0, shard.n_attempts - 1) for shard in self._shards)

    @property
    def open_shards(self) -> list[int]:
        """Shards that are not done."""
        return [index for index, shard in enumerate(self._shards) if not shard.is_done]

    def live_attempts(self) -> list[tuple[int, int]]:
        """(shard, attempt) that may still bring a result."""
        return [(index, n) for index in self.open_shards for n in self._shards[index].live]

    def is_done(self, shard: int) -> bool:
        """Tell whether a shard has been counted."""
        return self._shards[shard].is_done

    def n_on_their_way(self, queue: str) -> int:
        """Number of shards that were last sent to ``queue`` and are not done."""
        return self._n_sent_to[queue]

    @property
    def unsent(self) -> list[int]:
        """Shards that were not sent yet, in order."""
        return list(self._unsent)

    def last_queue(self, shard: int) -> str:
        """Name the queue that a shard was last sent to; "" before the first time."""
        return self._shards[shard].last_queue

    @property
    def n_sent(self) -> int:
        """Attempts in all."""
        return self._n_sent

    def kind_of_next(self, shard: int) -> AttemptReason:
        """Say what another attempt of a shard is: FIRST, a BACKUP, or just sent AGAIN."""
        entry = self._shards[shard]
        if entry.live:
            return AttemptReason.BACKUP
        return AttemptReason.AGAIN if entry.n_attempts else AttemptReason.FIRST

    def next_attempt(self, shard: int, *, queue: str = "", sent_us: int = 0) -> int:
        """Open a new attempt of a shard, about to be sent; returns its number.

        Args:
            shard: which.
            queue: where it is sent.
            sent_us: the time now, by Redis's clock; 0 when unknown.
        """
        self._unsent.pop(shard, None)
        entry = self._shards[shard]
        number = entry.n_attempts
        entry.n_attempts += 1
        if entry.live:
            self.backups += 1
        entry.live[number] = _Attempt(self._n_sent, sent_us, queue)
        if not entry.is_done:
            self._n_sent_to[entry.last_queue] -= entry.is_on_its_way
            self._n_sent_to[queue] += 1
        entry.last_queue, entry.is_on_its_way = queue, True
        entry.due_s = None
        self._n_sent += 1
        return number

    def mark_done(self, shard: int, *, compute_s: float = 0.0) -> None:
        """Count a shard; once."""
        entry = self._shards[shard]
        if not entry.is_done:
            entry.is_done = True
            self._unsent.pop(shard, None)
            self._n_sent_to[entry.last_queue] -= entry.is_on_its_way
            entry.live.clear()
            self._n_open -= 1
            self._compute_s.append(compute_s)

    def mark_failed(self, shard: int, attempt: int | None, reason: str, *, now_s: float) -> None:
        """Note that an attempt (None: whichever it was) failed.

        The shard is due again unless another attempt lives.

        Raises:
            ShardQuarantinedError: it has failed as often as it may.
        """
        entry = self._shards[shard]
        entry.forget(attempt)
        entry.reasons.append(reason)
        if len(entry.reasons) >= self._max_attempts:
            raise ShardQuarantinedError(
                f"shard {shard} of {self._name} failed {len(entry.reasons)} times "
                f"({'; '.join(dict.fromkeys(entry.reasons))}); mend the cause, then "
                "continue with `metafleet runs resume`"
            )
        if not entry.live:
            entry.due_s = now_s

    def mark_refused(
        self,
        shard: int,
        attempt: int | None,
        reason: str,
        *,
        worker: str,
        now_s: float,
        workers_alive: int,
    ) -> None:
        """Note that ``worker`` must not compute an attempt (None: whichever it was).

        The shard is offered to others after a pause. One that refuses is idle and may well be the
        first to take the shard again, so its repeated refusals alone end nothing.

        Raises:
            FleetError: as good as every worker has refused it.
        """
        entry = self._shards[shard]
        entry.forget(attempt)
        entry.refusals += 1
        entry.refused_by.add(worker)
        if entry.refusals > 3 + 2 * workers_alive and len(entry.refused_by) >= workers_alive:
            raise FleetError(
                f"shard {shard} of {self._name} was refused {entry.refusals} times; {reason}"
            )
        if not entry.live:
            entry.due_s = now_s + REFUSAL_PAUSE_S

    def mark_unsent(self, shard: int, *, now_s: float) -> None:
        """Note that what a shard needs was not there: due again, and nobody is to blame."""
        self._shards[shard].live.clear()
        self._shards[shard].due_s = now_s

    def unsend_all(self) -> None:
        """Give up all that is on its way: what is not done is to be sent as if for the first time.

        What failed stays counted.
        """
        for index in self.open_shards:
            entry = self._shards[index]
            entry.live.clear()
            entry.due_s = None
            self._n_sent_to[entry.last_queue] -= entry.is_on_its_way
            entry.is_on_its_way = False
        self._unsent = dict.fromkeys(self.open_shards)

    def review(self, view: FleetView, *, now_s: float) -> list[int]:
        """Compare with what Redis shows; returns the shards to be sent (again) now.

        Raises:
            ShardQuarantinedError: a shard lost its worker as often as it may.
        """
        newest_started: dict[str, int] = {}
        for pair in view.started:
            if (begun := self._find(*pair)) is not None:
                newest = newest_started.get(begun.queue, -1)
                newest_started[begun.queue] = max(newest, begun.sequence)
        waited_for = [index for index in self.open_shards if index not in view.committed]
        for index in waited_for:
            for number in list(self._shards[index].live):
                newest = newest_started.get(self._shards[index].live[number].queue, -1)
                self._look_at(index, number, view, newest, now_s=now_s)
        due = [i for i in waited_for if (at := self._shards[i].due_s) is not None and at <= now_s]
        return sorted(due + self._stragglers(waited_for, now_s))

    def _find(self, shard: int, attempt: int) -> _Attempt | None:
        return self._shards[shard].live.get(attempt) if shard < len(self._shards) else None

    def _look_at(
        self, shard: int, number: int, view: FleetView, newest_started: int, *, now_s: float
    ) -> None:
        entry = self._shards[shard]
        attempt = entry.live[number]
        # what has begun once stays begun: the longest of jobs outlive that hash
        if (shard, number) in view.started or attempt.started_s is not None:
            if attempt.started_s is None:
                attempt.started_s = attempt.shown_s = now_s
            if (shard, number) in view.leased:
                attempt.shown_s = now_s
                return
            # after an interruption of ours it may have died at any time
            is_sure = now_s - attempt.shown_s <= _SEEN_WITHIN_S
            what, reason = self._why_lost(now_s - attempt.started_s, is_sure=is_sure)
            self._on_lost(shard, number, what)
            self.mark_failed(shard, number, reason, now_s=now_s)
            return
        # Queues are first in, first out: a message that a later one has overtaken is gone.
        queue = view.queues[attempt.queue]
        is_missing = queue.is_empty or newest_started > attempt.sequence
        if attempt.sent_us:
            is_missing |= attempt.sent_us + OVERTAKEN_BY_US < queue.newest_started_us
        if queue.workers_alive == 0:  # all of its class have left: those of another can do it
            is_missing = view.has_workers
        if not is_missing:
            attempt.missing_since_s = None
        elif attempt.missing_since_s is None:
            attempt.missing_since_s = now_s
        elif now_s - attempt.missing_since_s >= QUEUE_GRACE_S:
            self._on_lost(shard, number, AttemptReason.MESSAGE)
            del entry.live[number]
            if not entry.live:
                entry.due_s = now_s

    def _why_lost(self, computed_s: float, *, is_sure: bool) -> tuple[AttemptReason, str]:
        limit = f"engine.job_deadline_s={self._job_deadline_s:g}"
        if is_sure and computed_s >= self._job_deadline_s:
            return AttemptReason.HUNG, f"it hung: no result after {limit}, so its process was ended"
        return (
            AttemptReason.WORKER,
            f"its worker died or hung; a job that hangs is ended after {limit}",
        )

    def _stragglers(self, waited_for: list[int], now_s: float) -> list[int]:
        """Choose the slowest shards for a backup, within the step's budget."""
        if self.done_fraction < STRAGGLERS_AFTER or not self._compute_s:
            return []
        limit_s = max(STRAGGLER_FLOOR_S, STRAGGLER_FACTOR * statistics.median(self._compute_s))
        running = [
            (attempt.started_s, index)
            for index in waited_for
            if len(self._shards[index].live) == 1
            for attempt in self._shards[index].live.values()
            if attempt.started_s is not None and now_s - attempt.started_s > limit_s
        ]
        return [index for _, index in sorted(running)[: max(0, self._most_backups - self.backups)]]
