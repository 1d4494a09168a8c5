"""Chooses the queue for each shard if a run may use several queues.

Each device class has one queue. A shard is sent to the queue whose workers would finish it first.
Which shards a step has, and the order of their sums, do not depend on the queues.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of one queue at one moment.

    Attributes:
        queue: name of the queue.
        processes: number of jobs that the queue's workers compute at the same time; 0 without
            workers.
        on_their_way: number of attempts that were sent to the queue and may still give a result.
        room: maximum of ``on_their_way``.
        typical_s: typical time for a shard on this queue's workers, in seconds; None if unknown.
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
    """Choose which shards to send now, and to which queues.

    The shards are assigned one after the other. A shard is assigned to the queue that would finish
    it first, after the shards that the queue already has. If this queue has no room, the shard is
    left out, and can be sent later. It is not sent to another queue with room, because the other
    queue would finish the shard later.

    Args:
        shards: indices of the shards, in order.
        device_queues: the queues. Queues without workers are not used. If no queue has workers, the
            first one is used.
        has_limits: whether to leave out shards for which there is no room.
        avoid: shard -> queue to avoid. The shard is sent to this queue only if there is no other
            queue.

    Returns:
        A mapping from shard to queue, in the order of ``shards``.
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
