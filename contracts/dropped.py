"""What workers dropped or were late with, as the ledger keeps it until the orchestrator looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_DROPPED: Final = 1000
"""Attempts that are noted one by one until the orchestrator looks; any more are only counted."""

# Notes that an attempt came to nothing, for the orchestrator to count: in the script that found it
# out, so that no attempt is counted twice or forgotten when an answer is lost. The hash is the last
# key; its field begins with the last but two argument, the last two are the worker and the TTL.
NOTE: Final = f"""
local function note(why)
  local key, field = KEYS[#KEYS], ARGV[#ARGV - 2] .. ':' .. why
  if redis.call('HLEN', key) < {MOST_DROPPED} or redis.call('HEXISTS', key, field) == 1 then
    redis.call('HSET', key, field, ARGV[#ARGV - 1])
  else
    redis.call('HINCRBY', key, string.match(field, '^[^:]+:') .. why, 1)
  end
  redis.call('PEXPIRE', key, ARGV[#ARGV])
end
"""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An attempt that came to nothing at a worker; or several, when there were too many to name.

    Attributes:
        stream, epoch, step, shard, attempt: which; all but the stream None for several.
        outcome: "late", "cancelled" or "unneeded".
        reason: "stale" (of an old epoch), "closed" (its step), "done" (its shard), "taken" (its
            message came twice) or "unwanted".
        worker: "host:pid"; "" for several.
        n: how many.
    """

    stream: str
    outcome: str
    reason: str
    epoch: int | None = None
    step: int | None = None
    shard: int | None = None
    attempt: int | None = None
    worker: str = ""
    n: int = 1


def parse_dropped(flat: Sequence[bytes]) -> tuple[Dropped, ...]:
    """Read the hash as Lua hands it out: field, value, field, value.

    Fields are "stream:epoch:step:shard:attempt:outcome:reason" with a worker, or
    "stream:outcome:reason" with a number.
    """
    texts = [text.decode(errors="replace") for text in flat]
    return tuple(map(_parse, texts[::2], texts[1::2]))


def _parse(field: str, value: str) -> Dropped:
    stream, *numbers, outcome, reason = field.split(":")
    if not numbers:
        return Dropped(stream, outcome, reason, n=int(value))
    epoch, step, shard, attempt = map(int, numbers)
    return Dropped(stream, outcome, reason, epoch, step, shard, attempt, worker=value)
