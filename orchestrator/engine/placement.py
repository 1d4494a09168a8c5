"""Chooses the queue of a shard if a run may use several: the one that would finish it first.

Each class of devices has a queue. The choice only affects where a shard is computed, not its
result.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of one queue at one moment.

    Attributes:
        queue: its name.
        processes: jobs that its workers compute at the same time; 0 without workers.
        on_their_way: attempts sent there that may still bring a result.
        room: maximum number of attempts on their way.
        typical_s: seconds that a shard takes there; None if unknown.
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
    """Choose queues for those of ``shards`` that should be sent now.

    Each shard, in order, is assigned to the queue that would finish it first, after those assigned
    before it. If that queue has no room, the shard waits: another queue may have room, but only
    because it is slow, and the shard would end later there.

    Args:
        shards: the shards, in order.
        device_queues: the queues. Queues without workers are not used; if none has workers, the
            first one is.
        has_limits: leave out shards for which there is no room.
        avoid: shard -> queue that it should not go to if there is another.

    Returns:
        Shard -> queue, in order.
    """
    staffed = [queue_state for queue_state in device_queues if queue_state.processes] or list(
        device_queues[:1]
    )
    # assume that a class without measurements is as fast as the fastest, to measure it
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
