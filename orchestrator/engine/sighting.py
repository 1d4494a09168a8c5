"""Reads the state of one step from Redis."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metafleet.contracts.connections import Client
from metafleet.contracts.foreign import drop_unless_below, take_numbers
from metafleet.contracts.keys import StepKeys


@dataclass(frozen=True, slots=True)
class Sighting:
    """The state of a step in Redis.

    Attributes:
        started: (shard, attempt) pairs of the attempts that workers have begun.
        leased: (shard, attempt) pairs of those requested attempts whose lease has not expired.
        committed: shards with a committed result.
        has_replies: whether results are waiting to be read.
        is_empty: a boolean for each requested queue, in order: whether the queue is empty.
        n_foreign: number of entries that were deleted because another program had written them.
    """

    started: set[tuple[int, int]]
    leased: set[tuple[int, int]]
    committed: set[int]
    has_replies: bool
    is_empty: tuple[bool, ...]
    n_foreign: int


def sight(
    client: Client,
    keys: StepKeys,
    *,
    attempts: Sequence[tuple[int, int]],
    queue_lists: Iterable[str],
) -> Sighting:
    """Read started attempts, leases, results and queues in one transaction.

    Args:
        client: client of the Redis server.
        keys: keys of the step, which must be open. The stored number of the last closed step must
            therefore be lower; otherwise, another program wrote that number, and it is deleted.
        attempts: (shard, attempt) pairs whose leases to read.
        queue_lists: names of the lists behind the queues.
    """
    pipeline = client.pipeline(transaction=True)
    pipeline.get(keys.closed)
    pipeline.hkeys(keys.started)
    pipeline.hkeys(keys.done)
    pipeline.llen(keys.replies)
    for shard, attempt in attempts:
        pipeline.exists(keys.lease(shard, attempt))
    for name in queue_lists:
        pipeline.llen(name)
    last_closed, started, done, n_replies, *more = pipeline.execute()
    leases, lengths = more[: len(attempts)], more[len(attempts) :]
    pairs, n_odd = take_numbers(client, keys.started, started, of=2)
    shards, n_odd_too = take_numbers(client, keys.done, done, of=1)
    # if it stayed there, every result of the step would be refused
    is_odd = drop_unless_below(client, keys.closed, last_closed, limit=keys.number)
    return Sighting(
        started={(shard, attempt) for shard, attempt in pairs},
        leased={pair for pair, exists in zip(attempts, leases, strict=True) if exists},
        committed={shard for (shard,) in shards},
        has_replies=n_replies > 0,
        is_empty=tuple(length == 0 for length in lengths),
        n_foreign=n_odd + n_odd_too + is_odd,
    )
