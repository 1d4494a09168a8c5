"""Which of many equal events are worth a line in the log."""

import threading
from collections import Counter


class Milestones:
    """Counts events by kind. Thread-safe.

    Others choose what they send, so no more than ``most_kinds`` kinds are told apart: the rest
    count as one.
    """

    def __init__(self, most_kinds: int = 1000) -> None:
        self._most_kinds = most_kinds
        self._counts: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    def count(self, kind: str) -> int:
        """Count an event; returns how many of its kind there were, 0 unless a line is due.

        It is at the first, the tenth, the hundredth, ...
        """
        with self._lock:
            is_known = kind in self._counts or len(self._counts) < self._most_kinds
            known = kind if is_known else None
            self._counts[known] += 1
            n = self._counts[known]
        return n if str(n).rstrip("0") == "1" else 0
