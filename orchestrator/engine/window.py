"""How many shards a run may have on their way at once."""

import math
import statistics
from collections import deque
from typing import Final

IN_HAND_S: Final = 0.1
"""How much work a worker process has in hand. Enough to hide a round trip from the next job, and
so little that the shards of other runs do not wait long behind ours."""

LEAST_IN_HAND: Final = 2
"""One at work, one waiting, however long they take."""

MOST_IN_HAND: Final = 16
LEAST_WINDOW: Final = 4
_REMEMBERED: Final = 32


class Window:
    """Chooses by how long the last shards took. What it chooses cannot change a result's bits."""

    def __init__(self) -> None:
        self._compute_s: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, compute_s: float) -> None:
        """Note how long a shard took."""
        self._compute_s.append(compute_s)

    @property
    def typical_s(self) -> float | None:
        """Median seconds of the last shards, above 0; None before the first."""
        return max(1e-6, statistics.median(self._compute_s)) if self._compute_s else None

    def size(self, processes: int) -> int:
        """Return how many shards ``processes`` worker processes may have in hand together."""
        in_hand = LEAST_IN_HAND
        if (typical_s := self.typical_s) is not None:
            in_hand = min(MOST_IN_HAND, max(LEAST_IN_HAND, math.ceil(IN_HAND_S / typical_s)))
        return max(in_hand * processes, LEAST_WINDOW)
