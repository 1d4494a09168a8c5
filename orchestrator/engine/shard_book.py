"""Tracks every shard of one step: sent, started, slow, lost, failed or done. Does no I/O."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.contracts.job import ShardResult
from metafleet.errors import FleetError, ShardQuarantinedError

QUEUE_GRACE_S: Final = 1.5
"""How long an attempt may be neither queued nor started before its message counts as lost."""

OVERTAKEN_BY_US: Final = 1_000_000
"""How much later than ours another run's message must be sent to count as overtaking it. Two runs
that send at the same time may do so in another order than that of their timestamps."""

REFUSAL_PAUSE_S: Final = 0.25
"""How long to wait before offering a refused shard again, so that another worker gets it."""

STRAGGLERS_AFTER: Final = 0.8
"""Share of a step's shards that must be done before the slowest get a backup."""

STRAGGLER_FACTOR: Final = 2.0
"""A shard is slow when it takes this many times the median."""

STRAGGLER_FLOOR_S: Final = 1.0
"""A shard is not slow before this time: a backup of a short job costs more than it saves."""

_SEEN_WITHIN_S: Final = 10.0
"""A lost worker counts as ended by its deadline only if it was seen alive this recently."""

BACKUP_BUDGET: Final = 0.1
"""Maximum backups in a step, as a share of its shards. At least one is allowed."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """The state of a queue in Redis at one moment.

    Attributes:
        is_empty: whether no message waits in the queue.
        workers_alive: number of live workers that take jobs from the queue.
        newest_started_us: the time at which the newest message that a worker has begun was sent, in
            microseconds of Redis's clock. Messages of all runs count. 0 if unknown.
    """

    is_empty: bool
    workers_alive: int
    newest_started_us: int = 0


@dataclass(frozen=True, slots=True)
class FleetView:
    """The state of a step in Redis at one moment.

    Attributes:
        started: (shard, attempt) pairs of the attempts that a worker has begun.
        leased: (shard, attempt) pairs of the attempts whose lease has not expired. A worker renews
            the lease of an attempt while it computes the attempt.
        committed: shards whose result is committed in Redis, whether or not we have read the
            result.
        queues: the run's queues, by name.
    """

    started: Set[tuple[int, int]]
    leased: Set[tuple[int, int]]
    committed: Set[int]
    queues: Mapping[str, QueueView]

    @property
    def has_workers(self) -> bool:
        """Whether a worker listens to any of the queues."""
        return any(queue.workers_alive for queue in self.queues.values())


@dataclass(slots=True)
class _Attempt:
    """An attempt that may still bring a result."""

    sequence: int
    sent_us: int
    queue: str
    started_s: float | None = None
    shown_s: float = 0.0  # when it began or was last seen alive
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
        """Remove an attempt from the live ones; None removes all."""
        if attempt is None:
            self.live.clear()
        else:
            self.live.pop(attempt, None)


class ShardBook:
    """The state of every shard of one step.

    A shard is the part of the step's episodes that one job computes. Each sending of a shard to a
    worker begins an attempt.

    Args:
        name: the step's name for messages, "train step 12" for example.
        n_shards: number of shards.
        max_attempts: how often a shard may fail or lose its worker.
        job_deadline_s: maximum time for an attempt, in seconds. After this time, the attempt's
            worker no longer renews the lease.
        on_lost: called with (shard, attempt, reason) for each lost attempt.
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
        """Number of attempts sent because another attempt was slow."""

    @property
    def is_complete(self) -> bool:
        """Whether every shard is done."""
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
        """Return the (shard, attempt) pairs that may still bring a result."""
        return [(index, n) for index in self.open_shards for n in self._shards[index].live]

    def is_done(self, shard: int) -> bool:
        """Return whether a shard is done."""
        return self._shards[shard].is_done

    def n_on_their_way(self, queue: str) -> int:
        """Return the number of shards that were last sent to ``queue`` and are not done."""
        return self._n_sent_to[queue]

    @property
    def unsent(self) -> list[int]:
        """Shards that have not been sent yet, in order."""
        return list(self._unsent)

    def last_queue(self, shard: int) -> str:
        """Return the queue that a shard was last sent to; "" before the first time."""
        return self._shards[shard].last_queue

    @property
    def n_sent(self) -> int:
        """Total number of attempts."""
        return self._n_sent

    def kind_of_next(self, shard: int) -> AttemptReason:
        """Return what the next attempt of a shard would be: FIRST, BACKUP or AGAIN."""
        entry = self._shards[shard]
        if entry.live:
            return AttemptReason.BACKUP
        return AttemptReason.AGAIN if entry.n_attempts else AttemptReason.FIRST

    def next_attempt(self, shard: int, *, queue: str = "", sent_us: int = 0) -> int:
        """Record a new attempt of a shard that is about to be sent. Return the attempt's number.

        Args:
            shard: index of the shard.
            queue: the queue to which the attempt is sent.
            sent_us: the current time in microseconds of Redis's clock; 0 if unknown.
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
        """Mark a shard as done. Later calls for the same shard change nothing."""
        entry = self._shards[shard]
        if not entry.is_done:
            entry.is_done = True
            self._unsent.pop(shard, None)
            self._n_sent_to[entry.last_queue] -= entry.is_on_its_way
            entry.live.clear()
            self._n_open -= 1
            self._compute_s.append(compute_s)

    def mark_failed(self, shard: int, attempt: int | None, reason: str, *, now_s: float) -> None:
        """Record that an attempt failed. ``attempt`` is None if the attempt's number is unknown.

        The shard will be sent again, unless another attempt of the shard is alive.

        Raises:
            ShardQuarantinedError: the shard has failed as often as is allowed.
        """
        entry = self._shards[shard]
        entry.forget(attempt)
        entry.reasons.append(reason)
        if len(entry.reasons) >= self._max_attempts:
            raise ShardQuarantinedError(
                f"shard {shard} of {self._name} failed {len(entry.reasons)} times "
                f"({'; '.join(dict.fromkeys(entry.reasons))}); fix the cause, then "
                "continue with `metafleet runs resume`"
            )
        if not entry.live:
            entry.due_s = now_s

    def mark_refused(self, result: ShardResult, *, now_s: float, processes_alive: int) -> None:
        """Record that a worker process refused to compute an attempt.

        After a pause, the shard is sent again. A process that has refused the shard is idle, and is
        often the first to take the shard again. So several refusals by one process do not end the
        run. The run ends only after refusals by as many different processes as are alive. If a
        process refused because of its settings, no second refusal is awaited, because settings do
        not change while a worker runs. For other reasons, a further condition is that there were
        several refusals for each live process.

        Args:
            result: the refusal.
            now_s: the current time of a monotonic clock, in seconds.
            processes_alive: number of jobs that the live workers can compute at the same time.

        Raises:
            FleetError: there were enough refusals to end the run.
        """
        entry = self._shards[result.shard]
        entry.forget(result.attempt)
        entry.refusals += 1
        entry.refused_by.add(result.worker)
        is_final = result.reason == AttemptReason.CONFIG or entry.refusals > 3 + 2 * processes_alive
        if is_final and len(entry.refused_by) >= max(processes_alive, 1):
            raise FleetError(
                f"shard {result.shard} of {self._name} was refused {entry.refusals} times; "
                f"{result.error}"
            )
        if not entry.live:
            entry.due_s = now_s + REFUSAL_PAUSE_S

    def mark_unsent(self, shard: int, *, now_s: float) -> None:
        """Record that a blob was missing: the shard is due again, without counting a failure."""
        self._shards[shard].live.clear()
        self._shards[shard].due_s = now_s

    def unsend_all(self) -> None:
        """Give up all live attempts. All shards that are not done then count as unsent.

        The number of failures of each shard does not change.
        """
        for index in self.open_shards:
            entry = self._shards[index]
            entry.live.clear()
            entry.due_s = None
            self._n_sent_to[entry.last_queue] -= entry.is_on_its_way
            entry.is_on_its_way = False
        self._unsent = dict.fromkeys(self.open_shards)

    def review(self, view: FleetView, *, now_s: float) -> list[int]:
        """Update this book from the state in Redis. Return the shards to send or resend now.

        Raises:
            ShardQuarantinedError: a shard has lost its worker as often as is allowed.
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
        # an attempt that has begun stays begun: the longest jobs outlive the hash
        if (shard, number) in view.started or attempt.started_s is not None:
            if attempt.started_s is None:
                attempt.started_s = attempt.shown_s = now_s
            if (shard, number) in view.leased:
                attempt.shown_s = now_s
                return
            # after an outage on our side, it may have died at any time
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
        # if all workers of its class have left, workers of another class can compute it
        if queue.workers_alive == 0:
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
        """Choose the slowest shards to back up, within the step's budget."""
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
