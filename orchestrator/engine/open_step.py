"""An open step of the fleet: sends its jobs, takes its results, and follows it in Redis."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from structlog.contextvars import bound_contextvars

from metafleet.contracts.attempt_outcomes import AttemptOutcome, AttemptReason
from metafleet.contracts.codec import WireDtype
from metafleet.contracts.connections import Client
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import BlobRef, InnerLoopJob, ShardResult
from metafleet.contracts.keys import RunKeys, queue_list
from metafleet.contracts.ledger import LeaseStatus, RunLedger
from metafleet.contracts.tracing import step_span, trace_parent
from metafleet.errors import (
    BlobMissingError,
    ContractError,
    FleetError,
    ImpureError,
    MetafleetError,
    NumericsError,
    SchemaError,
)
from metafleet.orchestrator.engine.attempt_counts import AttemptCounts, StepAttemptCounts
from metafleet.orchestrator.engine.collector import Collector
from metafleet.orchestrator.engine.feature_collector import FeatureCollector
from metafleet.orchestrator.engine.queue_mark import QueueMark
from metafleet.orchestrator.engine.redis_clock import RedisClock
from metafleet.orchestrator.engine.result_inbox import ResultInbox
from metafleet.orchestrator.engine.sending import Sending
from metafleet.orchestrator.engine.shard_book import FleetView, QueueView, ShardBook
from metafleet.orchestrator.engine.shard_names import name_shards
from metafleet.orchestrator.engine.sighting import sight
from metafleet.orchestrator.engine.step import (
    MEASURED_ONLY,
    AnyRequest,
    EncodeRequest,
    Shard,
    StepOutcome,
)

log = logging.getLogger(__name__)
JOB_LEASE_MS = 3000


class OpenStep:
    """The life of one step between sending and closing. Not thread-safe."""

    def __init__(  # noqa: PLR0913 - the step's surroundings, named one by one
        self,
        request: AnyRequest,
        shards: tuple[Shard, ...],
        *,
        keys: RunKeys,
        marks: Mapping[str, QueueMark],
        client: Client,
        exchange: Exchange,
        ledger: RunLedger,
        signing_key: str,
        max_attempts: int,
        job_deadline_s: float = math.inf,
        clock: RedisClock | None = None,
        wire_dtype: WireDtype = "float32",
        inputs: tuple[tuple[BlobRef, ...], ...] = (),
        defer: bool = False,
        attempt_counts: AttemptCounts | None = None,
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._marks, self._notify = marks, notify
        self._clock = clock or RedisClock(client)
        self._sent: dict[tuple[int, int], Sending] = {}
        self.request, self.name = request, f"{request.stream} step {request.step}"
        self._attempt_counts = StepAttemptCounts(
            attempt_counts or AttemptCounts(), request.stream, request.step, sent=self._sent
        )
        self.book = ShardBook(
            self.name,
            len(shards),
            max_attempts,
            job_deadline_s=job_deadline_s,
            on_lost=self._note_lost,
        )
        self._inbox = ResultInbox(
            self.name,
            run=keys.run,
            n_shards=len(shards),
            signing_key=signing_key,
            attempt_counts=self._attempt_counts,
        )
        self.shards, self._run_keys, self._epoch = shards, keys, -1
        self._keys = keys.step(request.stream, request.step, epoch=-1)
        self._client, self._ledger, self._signing_key = client, ledger, signing_key
        self._wire_dtype, self.is_deferred = wire_dtype, defer
        # sums of sums are sent unrounded: another rounding would change their bits
        wire = "float32" if request.kind == "reduce" else wire_dtype
        self.collector: Collector = (
            FeatureCollector(request, shards, exchange=exchange)
            if isinstance(request, EncodeRequest)
            else Collector(request, shards, exchange=exchange, wire_dtype=wire, defer=defer)
        )
        self.inputs = dict(enumerate(inputs))
        """Shard -> the blobs that its next attempt reads."""
        self._sums: dict[tuple[int, int], str] = {}
        self.failure: MetafleetError | None = None
        """Why the step cannot be finished. Raised in the caller that waits for it."""

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing more to wait for: every shard is done, or the step failed."""
        return self.book.is_complete or self.failure is not None

    @property
    def has_begun(self) -> bool:
        """Return whether any job of the step was sent."""
        return self._epoch >= 0

    @property
    def replies(self) -> str:
        """The list that wakes us when a result arrives."""
        return self._keys.replies

    @property
    def key_types(self) -> dict[str, str]:
        """The types of the step's keys in Redis, except blobs."""
        keys = self._keys
        ours = {keys.started: "hash", keys.done: "hash", keys.replies: "list"}
        return {**ours, keys.closed: "string"}

    @property
    def blob_prefix(self) -> str:
        """The prefix of the keys of the step's sums."""
        return self._keys.blob_prefix

    @property
    def open_sums(self) -> tuple[str, ...]:
        """The keys of sums that attempts may still bring, or have brought without being counted."""
        return tuple(self._sums.values())

    @contextmanager
    def keeping_failure(self) -> Iterator[None]:
        """Keep this step's error for the caller that waits for it, so that other steps go on."""
        try:
            with bound_contextvars(stream=self.request.stream, step=self.request.step):
                yield
        except (NumericsError, BlobMissingError, FleetError) as error:
            self.failure = error

    def move_to(self, epoch: int) -> None:
        """Continue under ``epoch``. Results of an older epoch are no longer accepted.

        Attempts that were sent under an older epoch and have no result yet are given up. The shards
        of these attempts count as unsent again.
        """
        if epoch == self._epoch:
            return
        for shard, attempt in self.book.live_attempts():
            self._attempt_counts.drop(
                AttemptOutcome.LOST, AttemptReason.EPOCH, shard=shard, attempt=attempt
            )
        self.book.unsend_all()
        self._epoch = self._attempt_counts.epoch = epoch
        self._keys = self._run_keys.step(self.request.stream, self.request.step, epoch=epoch)

    def jobs(  # noqa: PLR0913 - the fields of a message, named one by one
        self,
        placed: Mapping[int, str],
        *,
        plan: str,
        state: str,
        state_bytes: int,
        fingerprint: str,
        deadline_s: float,
        host: str = "",
        area: str = "",
        direct: str = "",
        via_store: bool = False,
        keeps_log: bool = False,
    ) -> list[InnerLoopJob]:
        """Open a new attempt of each shard in ``placed`` (shard -> queue) and return its job."""
        sent_us = self._clock.now_us()  # may ask Redis and fail, so do it before counting
        for index in placed:
            self._attempt_counts.count(AttemptOutcome.SENT, self.book.kind_of_next(index))
        jobs = [
            InnerLoopJob(
                run=self._run_keys.run,
                epoch=self._epoch,
                stream=self.request.stream,
                step=self.request.step,
                shard=index,
                n_shards=len(self.shards),
                attempt=self.book.next_attempt(index, queue=queue, sent_us=sent_us),
                kind=self.request.kind,
                split=self.request.split,
                episode_step=self.request.episode_step,
                first_episode=self.shards[index].first_episode,
                n_episodes=self.shards[index].n_episodes,
                plan=plan,
                state=state,
                state_bytes=state_bytes,
                wire_dtype=self._wire_dtype,
                inputs=self.inputs.get(index, ()),
                host=host,
                area=area,
                direct=direct,
                via_store=via_store,
                fingerprint=fingerprint,
                lease_ms=JOB_LEASE_MS,
                deadline_s=deadline_s,
                sent_us=sent_us,
                keeps_log=keeps_log,
                trace=trace_parent(self.request.stream, self.request.step),
            )
            for index, queue in placed.items()
        ]
        self._sent.update(
            {(job.shard, job.attempt): Sending(placed[job.shard], sent_us) for job in jobs}
        )
        if self.request.kind not in MEASURED_ONLY:
            pairs = [(job.shard, job.attempt) for job in jobs]
            self._sums.update({pair: self._keys.blob(*pair) for pair in pairs})
        return jobs

    def sum_key(self, job: InnerLoopJob) -> str:
        """Return the key of the sum that a job from ``jobs`` will bring."""
        return self._keys.blob(job.shard, job.attempt)

    def queue_of(self, result: ShardResult) -> str:
        """Return the queue that a result's attempt was sent to; "" if it was never sent."""
        sending = self._sent.get((result.shard, result.attempt))
        return sending.queue if sending else ""

    def parse(self, raw: bytes) -> Iterator[ShardResult]:
        """Yield the result in ``raw`` if it is valid and belongs to this step."""
        return self._inbox.parse(raw, epoch=self._epoch)

    def take(self, result: ShardResult, *, processes_alive: int) -> None:
        """Use a result. If it cannot be used, arrange for another attempt of its shard.

        Raises:
            NumericsError: a loss or gradient was not finite, or the learner wrote to its state.
                There is no other attempt, because every worker would get the same error.
            ShardQuarantinedError, FleetError: the shard may not have a further attempt.
        """
        self._note_begun((result.shard, result.attempt))
        if self.book.is_done(result.shard):
            return
        if result.status == "ok":
            self._add(result)
            return
        if self._inbox.is_first(self._inbox.raw_of(result.shard)):
            self._attempt_counts.drop_result(
                AttemptOutcome(result.status), result.reason, result, result.error
            )
            self._mark(result, processes_alive=processes_alive)
        self._reopen(result)

    def withdraw(self, result: ShardResult, reason: str, *, kind: str) -> None:
        """Refuse a committed result for a ``kind`` of reason, and reopen its shard."""
        if self._inbox.is_first(self._inbox.raw_of(result.shard)):
            log.warning("%s: result of shard %d refused: %s", self.name, result.shard, reason)
            self._attempt_counts.drop_result(AttemptOutcome.REJECTED, kind, result, reason)
            if not self.book.is_done(result.shard):
                now_s = time.monotonic()
                self.book.mark_failed(result.shard, result.attempt, reason, now_s=now_s)
        self._reopen(result)

    def review(self, *, alive: Mapping[str, int], processes_alive: int) -> list[int]:
        """Read the step's state in Redis, and return the shards to send.

        Results that arrived in Redis without a notification are also used, as by ``take``.

        Args:
            alive: queue -> number of live workers.
            processes_alive: number of jobs that the live workers can compute at the same time.
        """
        view, has_replies = self._look(alive)
        stranded = sorted(view.committed & set(self.book.open_shards))
        if stranded and not has_replies:
            self._recover(stranded, processes_alive)
        return self.book.review(view, now_s=time.monotonic())

    def close(self) -> LeaseStatus:
        """Refuse all later commits and delete the keys. "fenced" if the run has another owner."""
        for mark in self._marks.values():
            mark.publish()
        if not self.has_begun:
            return "ok"
        if isinstance(self.collector, FeatureCollector):
            self.collector.drop_inputs()
        request = self.request
        status, dropped = self._ledger.close_step(self._epoch, request.stream, request.step)
        self._attempt_counts.note_discarded(dropped)
        # a worker that died between storing a sum and committing it left the sum behind; a worker
        # that stores one from now on finds the step closed and removes the sum itself
        self.collector.discard(self._sums.values())
        self.collector.drop_deferred()
        self.collector.drop_read()
        return status

    def describe_missing(self) -> str:
        """Describe what is missing: "without shards 3, 7 of 16 (8 of 64 episodes)"."""
        missing = self.book.open_shards
        episodes = sum(self.shards[index].n_episodes for index in missing)
        return (
            f"without {name_shards(missing)} of {len(self.shards)} "
            f"({episodes} of {self.request.n_episodes} episodes)"
        )

    def outcome(self, workers_alive: int) -> StepOutcome:
        """Return the outcome of the finished step."""
        missing = tuple(self.book.open_shards)
        return StepOutcome(
            sums={} if self.is_deferred else self.collector.sums(),
            metrics=self.collector.metrics(),
            jobs=self.collector.jobs(),
            retries=self.book.retries,
            workers_alive=workers_alive,
            missing_shards=missing,
            missing_episodes=sum(self.shards[index].n_episodes for index in missing),
            attempts=self.book.n_sent,
            backups=self.book.backups,
            dropped=self._attempt_counts.dropped,
        )

    def _add(self, result: ShardResult) -> None:
        try:
            sending = self._sent.get((result.shard, result.attempt))
            with step_span(self.request.stream, self.request.step, "sum", shard=result.shard):
                self.collector.add(result, self._keys, sending=sending)
        except (ContractError, BlobMissingError) as error:
            self.withdraw(result, f"{type(error).__name__}: {error}", kind=error.reason)
        else:
            self._sums.pop((result.shard, result.attempt), None)
            self._attempt_counts.count(AttemptOutcome.COUNTED)
            self.book.mark_done(result.shard, compute_s=result.compute_s)
            self.collector.drop_read()

    def _recover(self, shards: list[int], processes_alive: int) -> None:
        """Take results that are only in the hash: lost after the pop, or invalid."""
        raws = cast(list[bytes | None], self._client.hmget(self._keys.done, list(map(str, shards))))
        for shard, raw in zip(shards, raws, strict=True):
            if raw is None:
                continue
            for result in (results := list(self.parse(raw))):
                self.take(result, processes_alive=processes_alive)
            if not results:
                if self._inbox.is_first(raw):
                    reason = f"its result was unsound: {self._inbox.why_unsound(raw)}"
                    self.book.mark_failed(shard, None, reason, now_s=time.monotonic())
                self._ledger.reopen(self._keys, shard=shard, result=raw)

    def _note_lost(self, shard: int, attempt: int, what: AttemptReason) -> None:
        if what == AttemptReason.HUNG:
            self._notify(
                f"{self.name}: shard {shard} hung and its worker's process was ended; `metafleet "
                "up`, `metafleet worker` and pools start another, where it hung is in its log"
            )
        self._attempt_counts.drop(AttemptOutcome.LOST, what, shard=shard, attempt=attempt)

    def _mark(self, result: ShardResult, *, processes_alive: int) -> None:
        """Record a result without a sum in the book. Raises the errors of ``take``."""
        shard, attempt, now_s = result.shard, result.attempt, time.monotonic()
        if result.status == "missing":
            self.book.mark_unsent(shard, now_s=now_s)
        elif result.status == "refused":
            self.book.mark_refused(result, now_s=now_s, processes_alive=processes_alive)
        elif result.is_retryable:
            self.book.mark_failed(shard, attempt, result.error, now_s=now_s)
        else:
            kind = ImpureError if result.reason == AttemptReason.IMPURE else NumericsError
            raise kind(f"{self.name}, shard {shard}: {result.error}")

    def _reopen(self, result: ShardResult) -> None:
        self._ledger.reopen(self._keys, shard=result.shard, result=self._inbox.raw_of(result.shard))

    def _note_begun(self, pair: tuple[int, int]) -> None:
        """Record that a worker began an attempt, as progress of its queue."""
        if (sending := self._sent.get(pair)) is not None:
            self._marks[sending.queue].note(sending.sent_us)

    def _look(self, alive: Mapping[str, int]) -> tuple[FleetView, bool]:
        """Return the view of the step in Redis, and whether replies are waiting."""
        lists = [queue_list(queue, self._signing_key) for queue in self._marks]
        attempts = self.book.live_attempts()
        seen = sight(self._client, self._keys, attempts=attempts, queue_lists=lists)
        for _ in range(seen.n_foreign):
            self._attempt_counts.reject_unknown(SchemaError.reason)
        for pair in seen.started:
            self._note_begun(pair)
        for mark in self._marks.values():
            mark.publish()
        now_us = self._clock.now_us()
        view = FleetView(
            started=seen.started,
            leased=seen.leased,
            committed=seen.committed,
            queues={
                queue: QueueView(is_empty, alive.get(queue, 0), mark.read(now_us=now_us))
                for (queue, mark), is_empty in zip(self._marks.items(), seen.is_empty, strict=True)
            },
        )
        return view, seen.has_replies
