"""What Redis shows of one step at one moment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metafleet.contracts.connections import Client
from metafleet.contracts.foreign import drop_unless_below, take_numbers
from metafleet.contracts.keys import StepKeys


@dataclass(frozen=True, slots=True)
class Sighting:
    """What Redis shows of a step.

    Attributes:
        started: (shard, attempt) that workers began.
        leased: those of the attempts asked for whose worker shows that it is alive.
        committed: shards of which a result is there.
        has_replies: whether results wait to be taken in.
        is_empty: for each queue asked for, whether nothing waits in it.
        n_foreign: entries that were not ours, and were dropped.
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
    """Read started, leases, results and queues as of one moment.

    Args:
        client: of the server.
        keys: of the step, which is open: the last closed one is below it.
        attempts: (shard, attempt) whose leases are looked for.
        queue_lists: names of the lists behind queues.
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
    # left there, it would refuse every result of the step
    is_odd = drop_unless_below(client, keys.closed, last_closed, limit=keys.number)
    return Sighting(
        started={(shard, attempt) for shard, attempt in pairs},
        leased={pair for pair, exists in zip(attempts, leases, strict=True) if exists},
        committed={shard for (shard,) in shards},
        has_replies=n_replies > 0,
        is_empty=tuple(length == 0 for length in lengths),
        n_foreign=n_odd + n_odd_too + is_odd,
    )
