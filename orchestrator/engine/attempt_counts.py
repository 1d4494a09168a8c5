"""Counts the outcomes of all attempts, and keeps samples of those that did not count."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from metafleet.contracts.attempt_logs import AttemptLog
from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.contracts.discarded_attempts import DiscardedAttempt
from metafleet.contracts.job import ShardResult
from metafleet.db.records import AttemptCountRecord, AttemptLogRecord, AttemptRecord
from metafleet.orchestrator.engine.sending import Sending

MOST_OF_A_STEP: Final = 100
"""Maximum number of attempts of a step that get a row. All are counted."""

MOST_OF_A_RUN: Final = 10_000
"""The same for one execution of a run: a permanent fault must not fill the database."""

AttemptRow = AttemptRecord | AttemptLogRecord
Sink = Callable[[Sequence[AttemptRow], Sequence[AttemptCountRecord]], None]


class AttemptCounts:
    """Counts the attempts of one execution of a run, by outcome. Not thread-safe.

    A shard is the part of a step's episodes that one job computes. An attempt is one try to compute
    a shard.

    Args:
        sink: receives new rows and all changed counters when a step closes.
        keeps_all_logs: whether workers also keep the log lines of attempts that count.
    """

    def __init__(
        self, sink: Sink = lambda _attempts, _counts: None, *, keeps_all_logs: bool = False
    ) -> None:
        self._sink = sink
        self.keeps_all_logs = keeps_all_logs
        self._logs: list[AttemptLogRecord] = []
        self._left_logs = math.inf if keeps_all_logs else MOST_OF_A_RUN
        self._counts: Counter[tuple[int, str, str, str]] = Counter()
        self._changed: set[tuple[int, str, str, str]] = set()
        self._rows: list[AttemptRecord] = []
        self._n_shown = 0
        self._left_of_run = MOST_OF_A_RUN

    def count(
        self, epoch: int, stream: str, outcome: AttemptOutcome, reason: str, n: int = 1
    ) -> None:
        """Count ``n`` attempts of ``stream`` in ``epoch``."""
        key = (epoch, stream, outcome.value, reason)
        self._counts[key] += n
        self._changed.add(key)

    def note(self, attempt: AttemptRecord) -> None:
        """Count an attempt without a usable result, and keep its row within the limits."""
        self.count(attempt.epoch, attempt.stream, AttemptOutcome(attempt.outcome), attempt.reason)
        left_of_step = MOST_OF_A_STEP - self._n_shown
        if len(self._rows) < min(left_of_step, self._left_of_run):
            self._rows.append(attempt)

    @property
    def expects_logs(self) -> bool:
        """Whether workers may have kept log lines since the last flush."""
        return self.keeps_all_logs or bool(self._rows) or bool(self._n_shown)

    def note_logs(self, logs: Iterable[AttemptLog]) -> None:
        """Keep the rows of attempts' log lines within the limit."""
        for each in logs:
            if len(self._logs) < self._left_logs:
                self._logs.append(
                    AttemptLogRecord(
                        stream=each.stream,
                        step=each.step,
                        epoch=each.epoch,
                        shard=each.shard,
                        attempt=each.attempt + 1,
                        worker=each.worker,
                        text=each.text,
                    )
                )

    def note_discarded(self, found: Iterable[DiscardedAttempt], *, epoch: int) -> None:
        """Count attempts that workers dropped; ``epoch`` is for those without one in the ledger."""
        for each in found:
            if each.step is None or each.shard is None or each.attempt is None:
                self.count(epoch, each.stream, AttemptOutcome(each.outcome), each.reason, each.n)
                continue
            self.note(
                AttemptRecord(
                    stream=each.stream,
                    step=each.step,
                    epoch=epoch if each.epoch is None else each.epoch,
                    shard=each.shard,
                    attempt=each.attempt + 1,
                    outcome=each.outcome,
                    reason=each.reason,
                    worker=each.worker,
                    sent_us=each.sent_us,
                    queue_wait_s=each.queue_wait_s,
                    compute_s=each.compute_s,
                )
            )

    def show(self) -> None:
        """Pass new rows to the sink while their step is open, so that users see what is retried.

        Logs and counters follow with ``flush``, whose errors this raises.
        """
        rows, self._rows = self._rows, []
        self._n_shown += len(rows)
        self._left_of_run -= len(rows)
        if rows:
            self._sink(rows, [])

    def flush(self) -> None:
        """Pass new rows and changed counters to the sink.

        Raises:
            FencedError, DatabaseError: the sink raised this error and does not accept the rows.
        """
        rows, logs, changed = self._rows, self._logs, sorted(self._changed)
        self._rows, self._logs, self._changed, self._n_shown = [], [], set(), 0
        self._left_of_run -= len(rows)
        self._left_logs -= len(logs)
        if rows or logs or changed:
            self._sink([*rows, *logs], [self._record_of(key) for key in changed])

    def _record_of(self, key: tuple[int, str, str, str]) -> AttemptCountRecord:
        epoch, stream, outcome, reason = key
        return AttemptCountRecord(
            epoch=epoch, stream=stream, outcome=outcome, reason=reason, n=self._counts[key]
        )


class StepAttemptCounts:
    """The outcomes of the attempts of one step. Not thread-safe.

    Args:
        attempt_counts: the counters of the run.
        stream, step: the step.
        sent: (shard, attempt) -> when the attempt was sent. The caller adds attempts to this
            mapping while the step is open.

    Attributes:
        dropped: number of attempts so far that failed, were lost, were refused or were rejected.
    """

    def __init__(
        self,
        attempt_counts: AttemptCounts,
        stream: str,
        step: int,
        *,
        sent: Mapping[tuple[int, int], Sending] = MappingProxyType({}),
    ) -> None:
        self._attempt_counts, self._stream, self._step = attempt_counts, stream, step
        self._sent = sent
        self.epoch = 0
        self.dropped = 0

    def count(self, outcome: AttemptOutcome, reason: str = "") -> None:
        """Count an attempt that was sent or whose result counted."""
        self._attempt_counts.count(self.epoch, self._stream, outcome, reason)

    def reject_unknown(self, reason: str) -> None:
        """Count a result that cannot be trusted at all, not even its shard and attempt."""
        self.dropped += 1
        self.count(AttemptOutcome.REJECTED, reason)

    def drop(self, outcome: AttemptOutcome, reason: str, *, shard: int, attempt: int) -> None:
        """Record an attempt (from 0) that brought no result."""
        self.dropped += 1
        self._attempt_counts.note(
            AttemptRecord(
                stream=self._stream,
                step=self._step,
                epoch=self.epoch,
                shard=shard,
                attempt=attempt + 1,
                outcome=outcome,
                reason=reason,
                **self._times(shard, attempt),
            )
        )

    def drop_result(
        self, outcome: AttemptOutcome, reason: str, result: ShardResult, detail: str
    ) -> None:
        """Record an attempt whose worker answered, but without a usable result."""
        self.dropped += 1
        self._attempt_counts.note(
            AttemptRecord(
                stream=self._stream,
                step=self._step,
                epoch=self.epoch,
                shard=result.shard,
                attempt=result.attempt + 1,
                outcome=outcome,
                reason=reason,
                worker=result.worker,
                detail=detail,
                queue_wait_s=result.queue_wait_s,
                compute_s=result.compute_s,
                **self._times(result.shard, result.attempt),
            )
        )

    def note_discarded(self, found: Iterable[DiscardedAttempt]) -> None:
        """Record attempts that workers dropped, of this step or of earlier ones."""
        self._attempt_counts.note_discarded(found, epoch=self.epoch)

    def _times(self, shard: int, attempt: int) -> dict[str, Any]:
        """Return the columns of the time from sending an attempt until now; {} if unknown."""
        sending = self._sent.get((shard, attempt))
        return {"sent_us": sending.sent_us, "round_trip_s": sending.age_s} if sending else {}
