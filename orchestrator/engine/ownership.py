"""Ownership of a run: a renewed lease in Redis, and an epoch that fences out the former owner."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from metafleet.contracts.connections import Client, connect, redis_errors
from metafleet.contracts.foreign import drop_foreign
from metafleet.contracts.keys import (
    DEMAND,
    QUEUES_STARTED,
    WORKERS_INFO,
    WORKERS_SEEN,
    RunKeys,
    queue_list,
)
from metafleet.contracts.ledger import Claim, RunLedger
from metafleet.contracts.logs import in_this_context
from metafleet.contracts.presence import WorkerInfo
from metafleet.errors import (
    BrokerUnavailableError,
    FencedError,
    FleetError,
    ForeignDataError,
    RunLeasedError,
)
from metafleet.orchestrator.engine.roll_call import RollCall

log = logging.getLogger(__name__)

RUN_LEASE_MS: Final = 10_000
_BEAT_S: Final = 2.0
_MOST_JUMPS: Final = 5
_LEAP: Final = 1000
"""How much the epoch is raised if Redis's epoch is unreadable, to exceed it in any case."""


class Ownership:
    """One orchestrator's ownership of one run.

    The owner holds a lease and an epoch. The lease is a key in Redis that expires unless the owner
    renews it. The epoch is a number that rises whenever the run gets a new owner or Redis loses
    data. Every two seconds, a thread renews the lease and counts workers. So the lease does not
    expire during a long outer update or a slow database call.

    Args:
        url: the broker's URL.
        run: the run's uid.
        queues: the Celery queues whose workers are counted.
        signing_key: the signing key of those workers.
        next_epoch: called with a number. It raises the run's epoch in the database above this
            number, and returns the new epoch.
        is_granted: whether the database made this process the owner. If so, this process takes the
            run even if the lease of an earlier owner has not expired.
        is_ours: returns whether this process still owns the run according to the database. It is
            called when Redis names another owner.
    """

    def __init__(  # noqa: PLR0913 - the seams of a hold on a run
        self,
        url: str,
        run: str,
        *,
        queues: Sequence[str],
        signing_key: str,
        next_epoch: Callable[[int], int],
        is_granted: bool = False,
        is_ours: Callable[[], bool] = lambda: False,
    ) -> None:
        self._url, self._run, self._queues = url, run, tuple(queues)
        self._is_granted, self._signing_key = is_granted, signing_key
        self._next_epoch, self._is_ours = next_epoch, is_ours
        self._client: Client = connect(url)
        owner = f"{socket.gethostname()}:{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._ledger, self._name = RunLedger(self._client, run, owner), owner.encode()
        self._ousted: set[bytes] = set()
        self._epoch = -1
        self._failure: FleetError | None = None
        self._is_lost = False
        self._roll_call = RollCall(self._client, self._queues, signing_key=signing_key)
        self._ended = threading.Event()
        beat = in_this_context(self._beat)
        self._thread = threading.Thread(target=beat, name="run-lease", daemon=True)

    @property
    def ledger(self) -> RunLedger:
        """The run's ledger."""
        return self._ledger

    @property
    def epoch(self) -> int:
        """The epoch under which this orchestrator sends jobs."""
        return self._epoch

    @property
    def workers_alive(self) -> int:
        """Number of workers that listened to a queue at the last count, at most two seconds ago."""
        return len(self._roll_call.workers)

    def alive_by_queue(self) -> dict[str, int]:
        """Count the live workers by queue."""
        return {queue: len(self._on(queue)) for queue in self._queues}

    def processes_on(self, queue: str) -> int:
        """Return how many jobs the workers of one queue can compute at the same time."""
        return sum(worker.processes for worker in self._on(queue))

    @property
    def is_lost(self) -> bool:
        """Whether another orchestrator is known to have taken over the run."""
        return self._is_lost

    @property
    def unfit(self) -> tuple[tuple[WorkerInfo, str], ...]:
        """Live workers that take none of this run's jobs, and why."""
        return self._roll_call.unfit

    @property
    def processes_alive(self) -> int:
        """How many jobs the live workers can compute at the same time."""
        return sum(worker.processes for worker in self._roll_call.workers)

    @property
    def hosts(self) -> frozenset[str]:
        """The host ids of the live workers; "" for workers that share no memory."""
        return frozenset(worker.host_id for worker in self._roll_call.workers)

    def take(self) -> None:
        """Claim the run and begin a new epoch.

        Raises:
            RunLeasedError: another orchestrator owns the run.
            FencedError: another orchestrator took over the run during this call.
            BrokerUnavailableError: Redis cannot be reached.
        """
        with redis_errors(self._url):
            claim = self._begin()
        if claim.status == "held":
            raise RunLeasedError(
                f"run {self._run} is being run by {claim.holder.split('/')[0]}; stop that one, or "
                f"wait {claim.remaining_ms / 1000:.0f} s after it dies for its lease to end"
            )
        if claim.status == "behind":
            raise FencedError(f"run {self._run} is taken over again and again; stopping")
        if not self._thread.is_alive():
            with redis_errors(self._url):
                self._roll_call.look()
            self._thread.start()

    def _begin(self) -> Claim:
        """Claim the run and begin an epoch greater than those in the database and in Redis."""
        # while the thread runs, we own the run, and the database has confirmed it
        is_granted = self._is_granted or self._thread.is_alive()
        if not is_granted:
            claim = self._ledger.claim(lease_ms=RUN_LEASE_MS)
            if claim.status != "ok":
                return claim
        beyond, may_replace = 0, False
        for _ in range(_MOST_JUMPS):
            # set it before telling Redis: a lost answer must not fence us out
            self._epoch = self._next_epoch(beyond)
            claim = self._ledger.take_over(
                self._epoch,
                lease_ms=RUN_LEASE_MS,
                is_granted=is_granted,
                may_replace=may_replace,
            )
            if claim.status != "behind":
                break
            may_replace = claim.found is None
            beyond = self._epoch + _LEAP if claim.found is None else claim.found
        return claim

    def check(self) -> bool:
        """Return whether Redis still has our epoch. If not, the caller must begin a new epoch.

        If Redis names the same owner with another epoch, the run was not taken over. Redis may have
        lost data, Redis may have been restored to an earlier state, or another program may have
        written to Redis. If Redis names another owner, the database decides. If the database still
        names this process, this process takes the run back, once. If the other owner is alive and
        then claims the run again, the run is left to the other owner.

        Raises:
            FencedError: another orchestrator has taken over the run.
            DatabaseUnavailableError: Redis names another owner, and the database is unavailable.
        """
        if self._failure is not None:
            raise self._failure
        with redis_errors(self._url):
            keys = RunKeys(self._run)
            epoch, holder, lease = cast(
                list[bytes | None], self._client.mget(keys.epoch, keys.holder, keys.lease)
            )
        if holder in (None, self._name):
            return bool(holder and epoch == str(self._epoch).encode())
        # a live owner that the database does not know uses another database: if it comes back,
        # leave the run to it
        is_alive = lease == holder
        if not self._is_ours() or (is_alive and holder in self._ousted):
            self._is_lost = True
            raise FencedError(f"run {self._run} was taken over by another orchestrator; stopping")
        if is_alive:
            self._ousted.add(holder)
        return False

    def drop_foreign(self, *more: Mapping[str, str]) -> dict[str, str]:
        """Delete values of a wrong type, under the run's keys and the keys that all runs share.

        Args:
            more: further keys to check, as a mapping from key to the type that the key's value must
                have.

        Returns:
            The keys of the deleted values, as a mapping from key to the type of the deleted value.
        """
        keys = RunKeys(self._run)
        own = {**dict.fromkeys((keys.epoch, keys.holder, keys.lease), "string")}
        own |= dict.fromkeys((keys.discarded, keys.logs, WORKERS_INFO, DEMAND), "hash")
        own |= dict.fromkeys((WORKERS_SEEN, QUEUES_STARTED), "zset")
        own |= {queue_list(queue, self._signing_key): "list" for queue in self._queues}
        for types in more:
            own |= types
        with redis_errors(self._url):
            return drop_foreign(self._client, own)

    def release(self) -> None:
        """Release the run, so that another orchestrator can take it at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            with redis_errors(self._url):
                self._ledger.release()
        except (BrokerUnavailableError, ForeignDataError) as error:
            log.warning("the lease of run %s will have to run out: %s", self._run, error)

    def _on(self, queue: str) -> list[WorkerInfo]:
        return [worker for worker in self._roll_call.workers if queue in worker.queues]

    def _beat(self) -> None:
        is_away = False
        while not self._ended.wait(_BEAT_S):
            try:
                with redis_errors(self._url):
                    self._ledger.renew(self._epoch, lease_ms=RUN_LEASE_MS)
                    self._roll_call.look()
                is_away = False
            except (BrokerUnavailableError, ForeignDataError) as error:
                if not is_away:
                    log.warning("run=%s lease not renewed: %s", self._run, error)
                is_away = True
            except Exception as error:  # the lease will expire, so the run must fail
                log.exception("run=%s lease", self._run)
                self._failure = FleetError(f"the lease of run {self._run} is not kept: {error}")
                return
