"""The queues that a run may use, one for each class of devices, as this run sees them."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.keys import queue_list, queue_of
from metafleet.orchestrator.engine.placement import QueueLoad, place
from metafleet.orchestrator.engine.queue_mark import QueueMark
from metafleet.orchestrator.engine.shard_book import ShardBook

IN_HAND_S: Final = 0.1
"""Seconds of work that a worker process has in hand: enough to hide the round trip for the next
job, but so little that the shards of other runs do not wait long behind ours."""

LEAST_IN_HAND: Final = 2
"""One running and one waiting, however long they take."""

MOST_IN_HAND: Final = 16
LEAST_WINDOW: Final = 4
_REMEMBERED: Final = 32


class Window:
    """Sizes a queue's window by how long recent shards took. This cannot change a result's bits."""

    def __init__(self) -> None:
        self._compute_s: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, compute_s: float) -> None:
        """Record how long a shard took."""
        self._compute_s.append(compute_s)

    @property
    def typical_s(self) -> float | None:
        """Median seconds of the last shards, > 0; None before the first."""
        return max(1e-6, statistics.median(self._compute_s)) if self._compute_s else None

    def size(self, processes: int) -> int:
        """Return how many shards ``processes`` worker processes may have in hand together."""
        in_hand = LEAST_IN_HAND
        if (typical_s := self.typical_s) is not None:
            in_hand = min(MOST_IN_HAND, max(LEAST_IN_HAND, math.ceil(IN_HAND_S / typical_s)))
        return max(in_hand * processes, LEAST_WINDOW)


ANY_DEVICE: Final = "any"
ProcessCount = Callable[[str], int]


def devices_of(device: str) -> tuple[str, ...]:
    """Return the classes of devices that ``engine.device`` allows, usually fastest first."""
    return ("cuda", "cpu") if device == ANY_DEVICE else (device,)


class _DeviceQueue:
    """One queue: the progress of its workers, and how long shards take there."""

    def __init__(self, queue_list: str, client: Client) -> None:
        self.mark = QueueMark(client, queue_list)
        self.window = Window()


class DeviceQueues:
    """The queues of a run. Not thread-safe.

    Args:
        device: the device class, or "any", as in ``FleetOptions``.
        client: client of the broker.
        signing_key: the signing key, which is part of the queues' names.
    """

    def __init__(self, device: str, client: Client, *, signing_key: str) -> None:
        queues = [queue_of(each) for each in devices_of(device)]
        self._device_queues = {q: _DeviceQueue(queue_list(q, signing_key), client) for q in queues}

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of the queues."""
        return tuple(self._device_queues)

    @property
    def marks(self) -> dict[str, QueueMark]:
        """The progress of each queue's workers."""
        return {queue: queue_state.mark for queue, queue_state in self._device_queues.items()}

    def note(self, queue: str, compute_s: float) -> None:
        """Record how long a shard from ``queue`` took. Unknown queues are ignored."""
        if (queue_state := self._device_queues.get(queue)) is not None:
            queue_state.window.note(compute_s)

    def place_new(
        self, shards: Iterable[int], on_their_way: Mapping[str, int], process_count: ProcessCount
    ) -> dict[int, str]:
        """Choose which of ``shards`` to send now. Return shard -> queue; see ``place``.

        Args:
            shards: indices of the shards that were not sent yet, in order.
            on_their_way: queue -> number of shards that were sent and have no result yet.
            process_count: returns how many jobs the workers of a queue compute at the same time.
        """
        return place(shards, self._loads(on_their_way, process_count))

    def place_again(
        self, shards: Sequence[int], book: ShardBook, process_count: ProcessCount
    ) -> dict[int, str]:
        """Choose a queue to resend each of ``shards`` to: another one, if possible."""
        on_their_way = {queue: book.n_on_their_way(queue) for queue in self._device_queues}
        avoid = {shard: book.last_queue(shard) for shard in shards}
        return place(
            shards, self._loads(on_their_way, process_count), has_limits=False, avoid=avoid
        )

    def _loads(
        self, on_their_way: Mapping[str, int], process_count: ProcessCount
    ) -> list[QueueLoad]:
        return [
            QueueLoad(
                queue=queue,
                processes=(processes := process_count(queue)),
                on_their_way=on_their_way.get(queue, 0),
                room=queue_state.window.size(processes),
                typical_s=queue_state.window.typical_s,
            )
            for queue, queue_state in self._device_queues.items()
        ]
