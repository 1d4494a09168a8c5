"""The ledger in Redis: who owns a run, which attempts started, which shards are done.

Celery's messages may vanish, come twice or come late; this is what decides. Each transition is one
Lua script, so that no two processes can see it half done. All times are Redis's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from metafleet.contracts.connections import Client
from metafleet.contracts.discarded_attempts import NOTE, Dropped, parse_dropped
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.keys import RunKeys, StepKeys

STEP_TTL_MS: Final = 3_600_000
RUN_TTL_MS: Final = 24 * 3_600_000

# What is under a key if it is a text; "" for another type, which is not ours and is replaced.
_TEXT: Final = """
local function text(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return false end
  return kind == 'string' and redis.call('GET', key) or ''
end
"""

_OWNING: Final = """
local function other_owner(key, owner, lease_ms)
  local found, left_ms = text(key), redis.call('PTTL', key)
  -- one that never ends, or lasts longer than leases do, is no lease
  if not found or found == owner or found == '' or left_ms < 0 or left_ms > 10 * lease_ms then
    return false
  end
  return {'held', found, left_ms}
end
"""

# The last step of the stream that was closed. What is no number closes nothing: the orchestrator
# finds it while a step is open, and drops it.
_CLOSED: Final = """
local function last_closed(key)
  return tonumber(text(key) or '') or -1
end
"""

# Race prevented: two orchestrators that both see the lease free. Only the one that gets it may then
# raise the epoch in the database, so that a loser can't fence out the winner there.
_CLAIM = """
local held = other_owner(KEYS[1], ARGV[1], tonumber(ARGV[2]))
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'ok', '', 0}
"""

# Races prevented: the lease ran out and was claimed by another between claim and this; or, of two
# servers of which the database made one the owner (ARGV[5] = 'granted'), the other is still at it:
# its lease is not waited for when its epoch is older. An epoch that is not beyond the one in Redis
# is not begun: 'behind' asks for one that is, beyond what was found, for the steps of that one may
# be closed here. What is no number (ARGV[6] = 'replace') is replaced at the second try, when the
# epoch has leapt far beyond what it may have been. A repeated call after a lost answer finds its
# own owner and epoch, and is told 'ok' again.
_TAKE_OVER = """
local owner, epoch = ARGV[1], tonumber(ARGV[2])
local found = text(KEYS[2])
local number = found and tonumber(found)
local is_odd = found and (not number or number ~= math.floor(number) or number < 0 or number > 1e9)
local is_repeated = number == epoch and text(KEYS[3]) == owner
local held = other_owner(KEYS[1], owner, tonumber(ARGV[3]))
local is_beyond = not found or (is_odd and ARGV[6] == 'replace') or (not is_odd and number < epoch)
if held and ARGV[5] ~= 'granted' then return held end
if not is_beyond and not is_repeated then
  return {'behind', is_odd and '' or string.format('%.0f', number), 0}
end
redis.call('SET', KEYS[1], owner, 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('SET', KEYS[3], owner, 'PX', ARGV[4])
return {'ok', '', 0}
"""

# Race prevented: renewing a lease that expired and was taken by another. A missing epoch means that
# Redis came back empty, another owner that the run was taken over, and an epoch of our own that is
# another number that Redis or somebody changed it: everything must be sent again.
_RENEW_RUN = """
local epoch, holder = text(KEYS[2]), text(KEYS[3])
if not epoch then return 'empty' end
if holder and holder ~= ARGV[1] then return 'fenced' end
if epoch ~= ARGV[2] then return 'changed' end
local owner = text(KEYS[1])
if owner and owner ~= '' and owner ~= ARGV[1] then return 'fenced' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 'ok'
"""

# Race prevented: releasing a lease that another has taken since.
_RELEASE_RUN = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 'ok'
"""

# Races prevented: the same attempt delivered to two workers (or twice to one: Celery redelivers);
# a late message of a closed step or of a fenced-out orchestrator; a retry of this call after a lost
# answer (same nonce: 'ok' again). Returns what to do and the microseconds since sending.
_START = """
local function refuse(why)
  note('unneeded:' .. why)
  return {why, 0}
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return refuse('stale') end
if last_closed(KEYS[2]) >= tonumber(ARGV[2]) then return refuse('closed') end
if redis.call('HEXISTS', KEYS[4], ARGV[3]) == 1 then return refuse('done') end
local field = ARGV[3] .. ':' .. ARGV[4]
if redis.call('HSETNX', KEYS[3], field, ARGV[5]) == 0
   and redis.call('HGET', KEYS[3], field) ~= ARGV[5] then return refuse('taken') end
redis.call('PEXPIRE', KEYS[3], ARGV[7])
redis.call('SET', KEYS[5], ARGV[5], 'PX', ARGV[6])
local t = redis.call('TIME')
return {'ok', math.floor(t[1] * 1000000 + t[2] - tonumber(ARGV[8]))}
"""

# Race prevented: reviving the lease of an attempt that the orchestrator has already given up; and
# computing on for a step that is closed. 0 tells the worker to give up.
_RENEW_JOB = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if last_closed(KEYS[2]) >= tonumber(ARGV[2]) then return 0 end
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return 0 end
if redis.call('GET', KEYS[4]) ~= ARGV[4] then return 0 end
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return 1
"""

# Race prevented: two attempts of one shard that both finish. The first one counts; a repeated call
# after a lost answer finds its own result and is told 'ok'. The hash is the truth, the list only
# wakes the orchestrator: a reply lost between pop and arrival is found again in the hash.
_COMMIT = """
local function refuse(why)
  note('late:' .. why)
  return why
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return refuse('stale') end
if last_closed(KEYS[2]) >= tonumber(ARGV[2]) then return refuse('closed') end
if redis.call('HSETNX', KEYS[3], ARGV[3], ARGV[4]) == 0 then
  if redis.call('HGET', KEYS[3], ARGV[3]) == ARGV[4] then return 'ok' end
  return refuse('done')
end
redis.call('RPUSH', KEYS[4], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
redis.call('DEL', KEYS[5])
return 'ok'
"""

# Race prevented: none; the worker has stopped.
_STOPPED = """
note('cancelled:unwanted')
return 'ok'
"""

# Race prevented: withdrawing a result that is not the one found to be bad.
_REOPEN = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 'ok'
"""

# Race prevented: a worker that commits while the step's keys are deleted: after 'closed' is set no
# commit gets through, so nothing is left behind. A fenced-out orchestrator closes nothing. Also
# takes what was dropped meanwhile, of this step or of earlier ones.
_CLOSE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'fenced', {}} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
local dropped = redis.call('HGETALL', KEYS[6])
redis.call('DEL', KEYS[6])
return {'ok', dropped}
"""

# Race prevented: an attempt noted between reading and deleting. A fenced-out orchestrator takes
# nothing: it is its successor's.
_TAKE_DROPPED = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
local dropped = redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
return dropped
"""

RunStatus = Literal["ok", "held", "fenced", "empty", "behind", "changed"]
StartStatus = Literal["ok", "stale", "closed", "done", "taken"]
CommitStatus = Literal["ok", "stale", "closed", "done"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to a claim on a run.

    Attributes:
        status: "ok"; "held" by ``holder`` for ``remaining_ms``; or "behind", when the epoch is not
            beyond ``found``.
        found: the epoch in Redis; None when what is there is none.
    """

    status: RunStatus
    holder: str
    remaining_ms: int
    found: int | None = None


class RunLedger:
    """The orchestrator's side: owns one run under one epoch. Thread-safe."""

    def __init__(self, client: Client, run: str, owner: str) -> None:
        self._keys = RunKeys(run)
        self._owner = owner
        self._claim = client.register_script(_TEXT + _OWNING + _CLAIM)
        self._take_over = client.register_script(_TEXT + _OWNING + _TAKE_OVER)
        self._renew = client.register_script(_TEXT + _RENEW_RUN)
        self._release = client.register_script(_RELEASE_RUN)
        self._reopen = client.register_script(_REOPEN)
        self._close = client.register_script(_CLOSE)
        self._take_dropped = client.register_script(_TAKE_DROPPED)

    def claim(self, *, lease_ms: int) -> Claim:
        """Take the run's lease, unless another orchestrator holds it."""
        answer = self._claim(keys=[self._keys.lease], args=[self._owner, lease_ms])
        return _claim_from(answer)

    def take_over(
        self, epoch: int, *, lease_ms: int, is_granted: bool = False, may_replace: bool = False
    ) -> Claim:
        """Begin ``epoch``, which must be beyond any before.

        Args:
            epoch: which.
            lease_ms: how long the run is ours unless it is renewed.
            is_granted: the database says whose the run is: a lease of an older epoch is not waited
                for. Without, the lease must just have been claimed.
            may_replace: what is there in place of an epoch and is none may be replaced.
        """
        flags = ("granted" if is_granted else "", "replace" if may_replace else "")
        answer = self._take_over(
            keys=[self._keys.lease, self._keys.epoch, self._keys.holder],
            args=[self._owner, epoch, lease_ms, RUN_TTL_MS, *flags],
        )
        return _claim_from(answer)

    def renew(self, epoch: int, *, lease_ms: int) -> RunStatus:
        """Keep the run; tells when Redis lost it or another took it."""
        status = self._renew(
            keys=[self._keys.lease, self._keys.epoch, self._keys.holder],
            args=[self._owner, epoch, lease_ms, RUN_TTL_MS],
        )
        return cast(RunStatus, _text(status))

    def release(self) -> None:
        """Give the run up, so that another need not wait for the lease to end."""
        self._release(keys=[self._keys.lease], args=[self._owner])

    def reopen(self, step: StepKeys, *, shard: int, result: bytes) -> None:
        """Withdraw a committed result that turned out to be bad."""
        self._reopen(keys=[step.done], args=[shard, result])

    def close_step(
        self, epoch: int, stream: str, step: int
    ) -> tuple[RunStatus, tuple[Dropped, ...]]:
        """Refuse every later commit of the step and forget its keys.

        Returns:
            "ok" or "fenced"; and what workers dropped since the last look.
        """
        keys = self._keys.step(stream, step, epoch=epoch)
        status, dropped = self._close(
            keys=[
                self._keys.epoch,
                self._keys.closed(stream, epoch=epoch),
                keys.started,
                keys.done,
                keys.replies,
                self._keys.dropped,
            ],
            args=[epoch, step, RUN_TTL_MS],
        )
        return cast(RunStatus, _text(status)), parse_dropped(dropped)

    def take_dropped(self, epoch: int) -> tuple[Dropped, ...]:
        """Return, once, what workers dropped or were late with since the last look."""
        return parse_dropped(
            self._take_dropped(keys=[self._keys.epoch, self._keys.dropped], args=[epoch])
        )


class JobLedger:
    """The worker's side: one attempt of one shard. Thread-safe."""

    def __init__(self, client: Client, job: InnerLoopJob, nonce: str) -> None:
        run = RunKeys(job.run)
        step = run.step(job.stream, job.step, epoch=job.epoch)
        self._job, self._nonce = job, nonce
        self._epoch, self._closed = run.epoch, run.closed(job.stream, epoch=job.epoch)
        self._started, self._done, self._replies = step.started, step.done, step.replies
        self._lease, self._dropped = step.lease(job.shard, job.attempt), run.dropped
        attempt = f"{job.stream}:{job.epoch}:{job.step}:{job.shard}:{job.attempt}"
        self._note_args: tuple[str, str, int] = (attempt, nonce.partition("/")[0], STEP_TTL_MS)
        reading = _TEXT + _CLOSED
        self._start = client.register_script(reading + NOTE + _START)
        self._renew = client.register_script(reading + _RENEW_JOB)
        self._commit = client.register_script(reading + NOTE + _COMMIT)
        self._stopped = client.register_script(NOTE + _STOPPED)

    def start(self) -> tuple[StartStatus, float]:
        """Take the attempt's lease. Returns what to do and the seconds it was queued."""
        job = self._job
        status, waited_us = self._start(
            keys=[
                *(self._epoch, self._closed, self._started, self._done, self._lease),
                self._dropped,
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
        return cast(StartStatus, _text(status)), max(0.0, int(waited_us) / 1e6)

    def renew(self) -> bool:
        """Keep the lease; False when this attempt is no longer waited for."""
        job = self._job
        renewed = self._renew(
            keys=[self._epoch, self._closed, self._done, self._lease],
            args=[job.epoch, job.step, job.shard, self._nonce, job.lease_ms],
        )
        return bool(renewed)

    def commit(self, result: str) -> CommitStatus:
        """Hand in the result; the first one of a shard counts."""
        job = self._job
        status = self._commit(
            keys=[
                *(self._epoch, self._closed, self._done, self._replies, self._lease),
                self._dropped,
            ],
            args=[job.epoch, job.step, job.shard, result, STEP_TTL_MS, *self._note_args],
        )
        return cast(CommitStatus, _text(status))

    def note_stopped(self) -> None:
        """Note that the attempt was given up because it is no longer waited for."""
        self._stopped(keys=[self._dropped], args=self._note_args)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _claim_from(answer: Sequence[object]) -> Claim:
    status, told, remaining_ms = _text(answer[0]), _text(answer[1]), int(str(answer[2]))
    if status == "behind":
        return Claim("behind", "", 0, found=int(told) if told else None)
    return Claim(cast(RunStatus, status), told, remaining_ms)
