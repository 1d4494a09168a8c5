"""The ledger in Redis: who owns a run, which attempts started, which shards are done.

Celery's messages may get lost, arrive twice or arrive late, so the ledger is authoritative. Each
transition is one Lua script in the folder ``lua``, so that no process sees half of a transition.
Each script's comment names the race that it prevents. All times are Redis's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from metafleet.contracts.attempt_logs import MOST_LOGS, AttemptLog, pack_log, parse_logs
from metafleet.contracts.connections import Client
from metafleet.contracts.discarded_attempts import MOST_DISCARDED, DiscardedAttempt, parse_discarded
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys, StepKeys
from metafleet.contracts.lua_scripts import lua_script

STEP_TTL_MS: Final = 3_600_000
RUN_TTL_MS: Final = 24 * 3_600_000

LeaseStatus = Literal["ok", "held", "fenced", "empty", "behind", "changed"]
StartStatus = Literal["ok", "stale", "closed", "done", "taken"]
CommitStatus = Literal["ok", "stale", "closed", "done"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to a claim on a run.

    Attributes:
        status: "ok" if the claim succeeded, "held" if ``holder`` has the run for another
            ``remaining_ms``, "behind" if the claimed epoch is not greater than ``found``.
        found: the epoch in Redis; None if the value in Redis is not an epoch.
    """

    status: LeaseStatus
    holder: str
    remaining_ms: int
    found: int | None = None


class RunLedger:
    """The orchestrator's side, for one run under one epoch. Thread-safe."""

    def __init__(self, client: Client, run: str, owner: str) -> None:
        self._keys = RunKeys(run)
        self._owner = owner
        self._claim = client.register_script(lua_script("text", "other_owner", "claim"))
        self._take_over = client.register_script(lua_script("text", "other_owner", "take_over"))
        self._renew = client.register_script(lua_script("text", "renew_run"))
        self._release = client.register_script(lua_script("release_run"))
        self._reopen = client.register_script(lua_script("reopen"))
        self._close = client.register_script(lua_script("close_step"))
        self._take_discarded = client.register_script(lua_script("take_discarded"))

    def claim(self, *, lease_ms: int) -> Claim:
        """Take the run's lease, unless another orchestrator holds it."""
        answer = self._claim(keys=[self._keys.lease], args=[self._owner, lease_ms])
        return _claim_from(answer)

    def take_over(
        self, epoch: int, *, lease_ms: int, is_granted: bool = False, may_replace: bool = False
    ) -> Claim:
        """Begin ``epoch``, which must be greater than any earlier one.

        Args:
            epoch: the new epoch.
            lease_ms: milliseconds for which we own the run without renewing the lease.
            is_granted: whether the database made us the owner. If True, a lease of an older epoch
                does not count. If False, the caller must have claimed the lease just before.
            may_replace: whether to replace the value in Redis if it is not an epoch.
        """
        flags = ("granted" if is_granted else "", "replace" if may_replace else "")
        answer = self._take_over(
            keys=[self._keys.lease, self._keys.epoch, self._keys.holder],
            args=[self._owner, epoch, lease_ms, RUN_TTL_MS, *flags],
        )
        return _claim_from(answer)

    def renew(self, epoch: int, *, lease_ms: int) -> LeaseStatus:
        """Renew the run's lease. The status shows whether Redis lost it or another took it."""
        status = self._renew(
            keys=[self._keys.lease, self._keys.epoch, self._keys.holder],
            args=[self._owner, epoch, lease_ms, RUN_TTL_MS],
        )
        return cast(LeaseStatus, _text(status))

    def release(self) -> None:
        """Release the run, so that another orchestrator need not wait for the lease to expire."""
        self._release(keys=[self._keys.lease], args=[self._owner])

    def reopen(self, step: StepKeys, *, shard: int, result: bytes) -> None:
        """Withdraw a committed result that was found to be bad."""
        self._reopen(keys=[step.done], args=[shard, result])

    def close_step(
        self, epoch: int, stream: str, step: int
    ) -> tuple[LeaseStatus, tuple[DiscardedAttempt, ...]]:
        """Close a step, so that later commits are refused, and delete its keys.

        Returns:
            Two things: the status, which is "ok", or "fenced" if the run has another epoch; and the
            attempts that workers discarded since the last call.
        """
        keys = self._keys.step(stream, step, epoch=epoch)
        status, found = self._close(
            keys=[
                self._keys.epoch,
                self._keys.closed(stream, epoch=epoch),
                keys.started,
                keys.done,
                keys.replies,
                self._keys.discarded,
            ],
            args=[epoch, step, RUN_TTL_MS],
        )
        return cast(LeaseStatus, _text(status)), parse_discarded(found)

    def take_discarded(self, epoch: int) -> tuple[DiscardedAttempt, ...]:
        """Return and delete the notes of attempts that workers dropped or finished late."""
        return parse_discarded(
            self._take_discarded(keys=[self._keys.epoch, self._keys.discarded], args=[epoch])
        )

    def take_logs(self, epoch: int) -> tuple[AttemptLog, ...]:
        """Return and delete the log lines that workers kept of their attempts."""
        return parse_logs(
            self._take_discarded(keys=[self._keys.epoch, self._keys.logs], args=[epoch])
        )


class JobLedger:
    """The worker's side, for one attempt of one shard. Thread-safe."""

    def __init__(self, client: Client, job: InnerLoopJob, nonce: str) -> None:
        run = RunKeys(job.run)
        step = run.step(job.stream, job.step, epoch=job.epoch)
        self._job, self._nonce = job, nonce
        self._epoch, self._closed = run.epoch, run.closed(job.stream, epoch=job.epoch)
        self._started, self._done, self._replies = step.started, step.done, step.replies
        self._lease, self._discarded = step.lease(job.shard, job.attempt), run.discarded
        self._client, self._logs = client, run.logs
        attempt = f"{job.stream}:{job.epoch}:{job.step}:{job.shard}:{job.attempt}"
        self._attempt, self._worker = attempt, nonce.partition("/")[0]
        self._started_us = 0
        self._start = client.register_script(
            lua_script("text", "last_closed", "note", "start", MOST_DISCARDED=MOST_DISCARDED)
        )
        self._renew = client.register_script(lua_script("text", "last_closed", "renew_job"))
        self._commit = client.register_script(
            lua_script("text", "last_closed", "note", "commit", MOST_DISCARDED=MOST_DISCARDED)
        )
        self._stopped = client.register_script(
            lua_script("note", "stopped", MOST_DISCARDED=MOST_DISCARDED)
        )

    def start(self) -> tuple[StartStatus, float]:
        """Take the attempt's lease. Return whether to compute it, and the seconds it was queued."""
        job = self._job
        status, waited_us = self._start(
            keys=[
                self._epoch,
                self._closed,
                self._started,
                self._done,
                self._lease,
                self._discarded,
            ],
            args=[
                job.epoch,
                job.step,
                job.shard,
                job.attempt,
                self._nonce,
                job.lease_ms,
                STEP_TTL_MS,
                job.sent_us,
                *self._note_args,
            ],
        )
        if _text(status) == "ok":
            self._started_us = job.sent_us + int(waited_us)
        return cast(StartStatus, _text(status)), max(0.0, int(waited_us) / 1e6)

    @property
    def _note_args(self) -> tuple[str, str, int]:
        """The arguments of ``note.lua``."""
        value = f"{self._worker} {self._job.sent_us} {self._started_us}"
        return self._attempt, value, STEP_TTL_MS

    def renew(self) -> bool:
        """Renew the lease. Return False if this attempt is no longer wanted."""
        job = self._job
        renewed = self._renew(
            keys=[self._epoch, self._closed, self._done, self._lease],
            args=[job.epoch, job.step, job.shard, self._nonce, job.lease_ms],
        )
        return bool(renewed)

    def commit(self, result: str) -> CommitStatus:
        """Commit the result. The first result of a shard counts."""
        job = self._job
        status = self._commit(
            keys=[
                self._epoch,
                self._closed,
                self._done,
                self._replies,
                self._lease,
                self._discarded,
            ],
            args=[job.epoch, job.step, job.shard, result, STEP_TTL_MS, *self._note_args],
        )
        return cast(CommitStatus, _text(status))

    def keep_log(self, text: str) -> None:
        """Keep the attempt's log lines for the orchestrator, in place of those kept before."""
        script, packed = lua_script("keep_log", MOST_LOGS=MOST_LOGS), pack_log(self._worker, text)
        self._client.eval(script, 1, self._logs, self._attempt, packed, STEP_TTL_MS)

    def drop_log(self) -> None:
        """Drop the attempt's kept log lines."""
        self._client.hdel(self._logs, self._attempt)

    def note_stopped(self) -> None:
        """Record that the attempt was stopped because it is no longer wanted."""
        self._stopped(keys=[self._discarded], args=self._note_args)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _claim_from(answer: Sequence[object]) -> Claim:
    status, told, remaining_ms = _text(answer[0]), _text(answer[1]), int(str(answer[2]))
    if status == "behind":
        return Claim("behind", "", 0, found=int(told) if told else None)
    return Claim(cast(LeaseStatus, status), told, remaining_ms)
