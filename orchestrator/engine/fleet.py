"""The engine on a fleet: Celery carries hints, the ledger in Redis decides, this loop watches."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from structlog.contextvars import bound_contextvars

from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.contracts.connections import connect, require_broker_url
from metafleet.contracts.job import BlobRef, ShardResult
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.ledger import LeaseStatus
from metafleet.contracts.settings import Settings
from metafleet.contracts.tracing import step_span
from metafleet.errors import BlobMissingError, FleetError, MetafleetError
from metafleet.orchestrator.engine.attempt_counts import AttemptCounts, Sink
from metafleet.orchestrator.engine.demand_mark import DemandMark
from metafleet.orchestrator.engine.device_queues import DeviceQueues
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.incompatible_workers import IncompatibleWorkers
from metafleet.orchestrator.engine.numerics import Numerics
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.ownership import Ownership
from metafleet.orchestrator.engine.redis_clock import RedisClock
from metafleet.orchestrator.engine.replies import wait_for_results
from metafleet.orchestrator.engine.retry import Retry
from metafleet.orchestrator.engine.second_look import SecondLook
from metafleet.orchestrator.engine.step import (
    MEASURED_ONLY,
    AnyRequest,
    EncodeRequest,
    Shard,
    StepOutcome,
    StepRequest,
    Ticket,
    cut,
)
from metafleet.orchestrator.engine.step_deadline import StepDeadline
from metafleet.orchestrator.engine.transfer import Transfer
from metafleet.orchestrator.engine.tree_reduction import SumsLostError, TreeReduction

log = logging.getLogger(__name__)

REVIEW_EVERY_S: Final = 0.5


class FleetDispatcher:
    """Sends a step's shards to Celery workers and adds up their results.

    A shard is the part of a step's episodes that one job computes. Each run has a fencing epoch.
    The fencing epoch is a number that rises whenever the run gets a new owner or Redis loses data.
    Results that were computed for an older epoch are refused.

    Args:
        settings: locations of broker and blobs, and the signing key.
        run: the run's uid.
        options: options for the use of the fleet.
        next_epoch: called with a number. It raises the run's fencing epoch in the database above
            this number, and returns the new epoch.
        notify: called with messages for users, such as messages about pauses and lost connections.
        fingerprint: the numerics fingerprint with which the run began. "" for a new run: the
            fingerprint of its first result then becomes the fingerprint of the run.
        check: called twice a second. It raises an error if the run must stop.
        is_granted, is_ours: say who owns the run according to the database; see ``Ownership``.
        sink: receives counters of attempts, and a row for each attempt whose result was not used.

    Not thread-safe.
    """

    def __init__(  # noqa: PLR0913 - the seams of a dispatcher
        self,
        settings: Settings,
        run: str,
        *,
        options: FleetOptions,
        next_epoch: Callable[[int], int],
        notify: Callable[[str], None],
        fingerprint: str = "",
        check: Callable[[], None] = lambda: None,
        is_granted: bool = False,
        is_ours: Callable[[], bool] = lambda: False,
        sink: Sink | None = None,
    ) -> None:
        self._check = check
        self._attempt_counts = AttemptCounts(
            sink or (lambda _attempts, _counts: None),
            keeps_all_logs=settings.attempt_logs == "all",
        )
        self._url = require_broker_url(settings)
        self._options, self._notify = options, notify
        self._key = settings.signing_key
        self._keys = RunKeys(run)
        self._client = connect(self._url)
        self._device_queues = DeviceQueues(options.device, self._client, signing_key=self._key)
        self._transfer = Transfer(self._client, settings, run, options=options)
        self._owner = Ownership(
            self._url,
            run,
            queues=self._device_queues.queues,
            signing_key=self._key,
            next_epoch=next_epoch,
            is_granted=is_granted,
            is_ours=is_ours,
        )
        self._clock = RedisClock(self._client)
        self._demand = DemandMark(self._client, run, self._clock)
        self._numerics = Numerics(fingerprint, is_strict=options.is_strict, notify=notify)
        self._second_look = SecondLook(
            self._open,
            self._finish,
            self._close,
            is_due=options.is_strict,
            count_processes=lambda: self.processes_alive,
            notify=notify,
        )
        self._incompatible_workers = IncompatibleWorkers(notify)
        self._retry = Retry(self._url, notify=notify, check=check, heal=self._drop_foreign)
        self._persist = self._retry.persist
        self._reduction = TreeReduction(
            self._open,
            self._finish,
            self._close,
            persist=self._persist,
            fan_in=options.reduce_fan_in,
            count_workers=lambda: self._owner.workers_alive,
        )
        self._open_steps: list[OpenStep] = []
        self._begun: dict[Ticket, OpenStep] = {}
        self._numbers = itertools.count()
        self._review_at_s = 0.0
        try:
            self._owner.take()
        except BaseException:  # free the direct transfers' port for the next one on this host
            self._transfer.close()
            raise

    @property
    def fingerprint(self) -> str:
        """Numerics fingerprint of the run's workers; "" before the first result."""
        return self._numerics.known

    @property
    def epoch(self) -> int:
        """This orchestrator's fencing epoch."""
        return self._owner.epoch

    @property
    def processes_alive(self) -> int:
        """How many jobs the live workers can compute at the same time."""
        return self._owner.processes_alive

    @property
    def sent_bytes(self) -> int:
        """Bytes of items sent to be encoded."""
        return self._transfer.sent_bytes

    def set_episodes_per_job(self, episodes_per_job: int) -> None:
        """Set the number of episodes per job for steps that begin from now on."""
        self._options = replace(self._options, episodes_per_job=episodes_per_job)

    def begin(self, request: AnyRequest) -> Ticket:
        """Open a step; see ``Dispatcher``."""
        ticket = Ticket(next(self._numbers))
        self._begun[ticket] = self._second_look.begin(self._open(request))
        self._persist(self._fill)
        return ticket

    def is_ready(self, ticket: Ticket) -> bool:
        """Return whether all its results are here; see ``Dispatcher``."""
        return self._begun[ticket].is_settled

    def finish(self, ticket: Ticket) -> StepOutcome:
        """Wait for a step; see ``Dispatcher``.

        Raises:
            FencedError: another orchestrator has taken over the run.
            ShardQuarantinedError: a shard failed too often.
            FleetError: the step was not finished by its deadline.
            NumericsError: a loss or gradient is not finite.
            ImpureError: a shard of the first step was computed twice, and the results have
                different bits.
        """
        step = self._begun.pop(ticket)
        for _ in range(self._options.max_attempts):
            try:
                with step_span(step.request.stream, step.request.step, "wait"):
                    self._finish(step)
                with step_span(step.request.stream, step.request.step, "sum"):
                    outcome = step.outcome(self._owner.workers_alive)
                    if step.is_deferred:
                        outcome = self._reduction.run(step, outcome)
                self._second_look.compare(step)
            except SumsLostError as error:
                self._close(step)
                self._notify(f"{step.name} begins again: {error}")
            except BaseException:  # failed or interrupted: drop the jobs that are still queued
                self._close(step)
                raise
            else:
                if self._close(step) == "fenced":
                    self._persist(self._owner.check)
                return outcome
            # a closed step can only be reopened under a new epoch, which applies to all steps
            self._persist(self._restore)
            step = self._second_look.begin(self._open(step.request))
        self._close(step)
        raise FleetError(f"{step.name} lost its sums too often; are the blobs evicted?")

    def drop(self, ticket: Ticket) -> None:
        """Give up a step; see ``Dispatcher``."""
        if (step := self._begun.pop(ticket, None)) is not None:
            self._close(step)

    def run_step(self, request: StepRequest) -> StepOutcome:
        """Begin a step and finish it."""
        return self.finish(self.begin(request))

    def _open(
        self,
        request: AnyRequest,
        shards: tuple[Shard, ...] = (),
        *,
        inputs: tuple[tuple[BlobRef, ...], ...] = (),
    ) -> OpenStep:
        shards = shards or cut(request, self._options.episodes_per_job)
        defer = request.kind == "gradient" and 0 < self._options.reduce_fan_in < len(shards)
        step = OpenStep(
            request,
            shards,
            keys=self._keys,
            marks=self._device_queues.marks,
            client=self._client,
            exchange=self._transfer.exchange,
            ledger=self._owner.ledger,
            signing_key=self._key,
            max_attempts=self._options.max_attempts,
            job_deadline_s=self._options.job_deadline_s,
            clock=self._clock,
            wire_dtype=self._options.wire_dtype,
            inputs=inputs,
            defer=defer,
            attempt_counts=self._attempt_counts,
            notify=self._notify,
        )
        self._open_steps.append(step)
        return step

    def settle(self) -> None:
        """Record attempts dropped since the last step closed. Ignores an unreachable Redis."""
        with self._retry.leaving("the notes of dropped attempts"):
            dropped = self._owner.ledger.take_discarded(self._owner.epoch)
            self._attempt_counts.note_discarded(dropped, epoch=self._owner.epoch)
        self._take_logs()
        self._attempt_counts.flush()

    def close(self) -> None:
        """Withdraw the run's blobs and release its lease. Ignores an unreachable Redis."""
        for ticket in list(self._begun):
            self.drop(ticket)
        if not self._owner.is_lost:  # blobs are named by content: the new owner may use them too
            with self._retry.leaving("blobs of the run"):
                self._transfer.withdraw()
                self._demand.withdraw()
        self._transfer.close()
        self._owner.release()

    def _finish(self, step: OpenStep) -> None:
        """Work on all open steps until ``step`` is done. Only the deadline of ``step`` runs."""
        self._persist(self._fill)
        limit_s, queues = self._options.step_deadline_s, self._device_queues.queues
        deadline = StepDeadline(limit_s, self._notify, queues, waited_s=self._retry.waited_s)
        while not step.is_settled:
            self._check()
            self._persist(self._take_in)
            self._persist(self._fill)
            if time.monotonic() >= self._review_at_s:
                self._incompatible_workers.tell_of(self._owner.unfit)
                alive, waited_s = self._owner.workers_alive, self._retry.waited_s
                if deadline.has_passed(alive, waited_s=waited_s):
                    self._accept_part(step, deadline)
                    return
                self._persist(self._review)
                self._record_attempts(self._attempt_counts.show)
                self._review_at_s = time.monotonic() + REVIEW_EVERY_S
        if step.failure is not None:
            raise step.failure

    def _unsettled(self) -> list[OpenStep]:
        """Return the steps to work on. Evaluations come last, to fill what gradients leave idle."""
        steps = [step for step in self._open_steps if not step.is_settled]
        return sorted(steps, key=lambda step: step.request.kind in MEASURED_ONLY)

    def _accept_part(self, step: OpenStep, deadline: StepDeadline) -> None:
        """Accept the step with missing shards if the policy allows it."""
        is_allowed = step.request.kind == "gradient" and self._options.min_fraction < 1.0
        done = step.book.done_fraction
        if not is_allowed or done < self._options.min_fraction:
            raise FleetError(
                f"{step.name} has {done:.0%} of its shards after {deadline.spent_s:.0f} s "
                f"(engine.step_deadline_s={self._options.step_deadline_s:g}); add workers or raise "
                "it, then continue with `metafleet runs resume`"
            )
        self._notify(
            f"{step.name} is degraded: went on {step.describe_missing()} after "
            f'{deadline.spent_s:.0f} s (engine.policy="partial")'
        )

    def _fill(self) -> None:
        """Send only as many more shards as the fleet may have in hand, so that runs take turns."""
        self._follow_epoch()
        on_their_way: Counter[str] = Counter()
        self._demand.note(sum(len(step.book.open_shards) for step in self._unsettled()))
        for step in self._unsettled():
            on_their_way.update(
                {q: step.book.n_on_their_way(q) for q in self._device_queues.queues}
            )
            placed = self._device_queues.place_new(
                step.book.unsent, on_their_way, self._owner.processes_on
            )
            self._send(step, placed)
            on_their_way.update(placed.values())

    def _send(self, step: OpenStep, placed: Mapping[int, str]) -> None:
        if placed:
            step.move_to(self._owner.epoch)
            fingerprint = ""  # features are computed once, with any last bits
            if not isinstance(step.request, EncodeRequest):
                fingerprint = self._numerics.required(step.request.spec)
            self._transfer.send(step, placed, hosts=self._owner.hosts, fingerprint=fingerprint)

    def _take_in(self) -> None:
        wait_s = max(0.01, self._review_at_s - time.monotonic())
        for step, result in wait_for_results(self._client, self._unsettled(), wait_s):
            attempt = {"shard": result.shard, "attempt": result.attempt + 1}
            with step.keeping_failure(), bound_contextvars(worker=result.worker, **attempt):
                self._take(step, result)

    def _find_fault(self, step: OpenStep, result: ShardResult) -> str:
        if isinstance(step.request, EncodeRequest):
            return ""
        return self._numerics.find_fault(step.request.spec, result)

    def _take(self, step: OpenStep, result: ShardResult) -> None:
        if fault := self._find_fault(step, result):
            step.withdraw(result, fault, kind="fingerprint")
            return
        if result.status == "missing":
            if step.request.kind == "reduce":
                raise BlobMissingError(result.error)
            if result.reason == AttemptReason.MISSING_DATA:
                self._transfer.note_missed_data()
            else:
                self._transfer.note_missed()
        if result.status == "ok":
            self._device_queues.note(step.queue_of(result), result.compute_s)
        step.take(result, processes_alive=self.processes_alive)
        self._second_look.follow(step)

    def _review(self) -> None:
        if not self._owner.check():
            self._notify("Redis came back empty or changed: sending the open shards again")
            self._restore()
            return
        self._follow_epoch()
        self._demand.publish()
        for step in self._unsettled():
            with step.keeping_failure():
                due = step.review(
                    alive=self._owner.alive_by_queue(), processes_alive=self.processes_alive
                )
                if due:
                    log.warning("%s: sending shards %s again", step.name, due)
                    self._transfer.invalidate()  # the blob may be lost, not the message
                    process_count = self._owner.processes_on
                    self._send(step, self._device_queues.place_again(due, step.book, process_count))

    def _restore(self) -> None:
        """Begin a new epoch, and resend the shards that were on their way under the old one."""
        # these are cheap and safe to repeat: a retry may find that the epoch has begun
        self._clock.forget()
        self._transfer.invalidate()
        self._owner.take()
        self._fill()

    def _follow_epoch(self) -> None:
        """Move every open step to the current epoch, even if the call that began it failed."""
        for step in self._unsettled():
            if step.has_begun:
                step.move_to(self._owner.epoch)

    def _drop_foreign(self) -> None:
        """Drop foreign values under our keys. Anything lost by that is noticed and redone."""
        types = [step.key_types for step in self._unsettled()]
        for key, kind in self._owner.drop_foreign(*types).items():
            self._notify(f"dropped a {kind} from {key} in Redis, which was not ours")

    def _close(self, step: OpenStep) -> LeaseStatus | None:
        self._second_look.forget(step)
        self._open_steps.remove(step)
        status: LeaseStatus | None = None
        with self._retry.leaving(f"the keys of {step.name}"):
            status = step.close()
        # a worker that brings a sum from now on finds the step closed and removes the sum
        with self._retry.leaving(f"blobs of {step.name}"):
            self._transfer.forget(step)
        self._take_logs()
        self._record_attempts(self._attempt_counts.flush)
        return status

    def _take_logs(self) -> None:
        if self._attempt_counts.expects_logs:
            with self._retry.leaving("the logs of attempts"):
                logs = self._owner.ledger.take_logs(self._owner.epoch)
                self._attempt_counts.note_logs(logs)

    def _record_attempts(self, record: Callable[[], None]) -> None:
        try:
            record()
        except MetafleetError as error:  # writing the step's own row will raise the error again
            log.warning("attempts are not recorded: %s", error)
