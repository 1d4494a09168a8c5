"""Which queue a shard goes to, where a run may use several: the one that is done with it first.

Queues are those of classes of devices. What is chosen here cannot change what is computed, only
where.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaneLoad:
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
    lanes: Sequence[LaneLoad],
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
        lanes: the queues; of those without workers the first, and only when none has any.
        has_limits: leave out what there is no room for.
        avoid: where a shard should not go again if it can go elsewhere.

    Returns:
        Shard -> queue, in order.
    """
    staffed = [lane for lane in lanes if lane.processes] or list(lanes[:1])
    # a class of which nothing is known yet is taken to be as fast as any, to find out
    unknown_s = min((s for lane in staffed if (s := lane.typical_s) is not None), default=1.0)
    queued = {lane.queue: lane.on_their_way for lane in staffed}
    room = {lane.queue: lane.room - lane.on_their_way for lane in staffed}

    def done_s(lane: LaneLoad) -> float:
        rounds = math.ceil((queued[lane.queue] + 1) / max(1, lane.processes))
        return rounds * (unknown_s if lane.typical_s is None else lane.typical_s)

    placed: dict[int, str] = {}
    for shard in shards:
        if has_limits and max(room.values()) <= 0:
            break
        worse = (avoid or {}).get(shard)
        choice = [lane for lane in staffed if lane.queue != worse] or staffed
        queue = min(choice, key=done_s).queue
        queued[queue] += 1
        if not has_limits or room[queue] > 0:
            placed[shard] = queue
            room[queue] -= 1
    return placed
