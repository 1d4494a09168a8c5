"""Which queue a shard goes to, where a run may use several: the one that is done with it first.

Queues are those of classes of devices. What is chosen here cannot change what is computed, only
where.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """One queue at one moment.

    Attributes:
        queue: its name.
        processes: jobs that its workers compute at a time; 0 when none is there.
        on_their_way: attempts sent there that may still bring a result.
        room: how many of them there should be at most.
        typical_s: seconds that a shard takes there; None while unknown.
    """

    queue: str
    processes: int
    on_their_way: int
    room: int
    typical_s: float | None


def place(
    shards: Iterable[int],
    device_queues: Sequence[QueueLoad],
    *,
    has_limits: bool = True,
    avoid: Mapping[int, str] | None = None,
) -> dict[int, str]:
    """Choose a queue for each of ``shards`` that should be sent now.

    In order, each is meant for the queue that is done with it first, counting those before it. One
    that is meant for a queue without room waits for that room: sent elsewhere, where there is room
    because it is slow there, it would end later.

    Args:
        shards: which, in order.
        device_queues: the queues; of those without workers the first, and only when none has any.
        has_limits: leave out what there is no room for.
        avoid: where a shard should not go again if it can go elsewhere.

    Returns:
        Shard -> queue, in order.
    """
    staffed = [queue_state for queue_state in device_queues if queue_state.processes] or list(
        device_queues[:1]
    )
    # a class of which nothing is known yet is taken to be as fast as any, to find out
    unknown_s = min(
        (s for queue_state in staffed if (s := queue_state.typical_s) is not None), default=1.0
    )
    queued = {queue_state.queue: queue_state.on_their_way for queue_state in staffed}
    room = {
        queue_state.queue: queue_state.room - queue_state.on_their_way for queue_state in staffed
    }

    def done_s(queue_state: QueueLoad) -> float:
        rounds = math.ceil((queued[queue_state.queue] + 1) / max(1, queue_state.processes))
        return rounds * (unknown_s if queue_state.typical_s is None else queue_state.typical_s)

    placed: dict[int, str] = {}
    for shard in shards:
        if has_limits and max(room.values()) <= 0:
            break
        worse = (avoid or {}).get(shard)
        choice = [queue_state for queue_state in staffed if queue_state.queue != worse] or staffed
        queue = min(choice, key=done_s).queue
        queued[queue] += 1
        if not has_limits or room[queue] > 0:
            placed[shard] = queue
            room[queue] -= 1
    return placed
