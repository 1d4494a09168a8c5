"""Chooses which of many equal events to log."""

import threading
from collections import Counter


class Milestones:
    """Counts events by kind. Thread-safe.

    Other programs may cause events of any number of kinds. The number of kinds is therefore
    limited: after ``most_kinds`` kinds, all further kinds are counted as one kind.
    """

    def __init__(self, most_kinds: int = 1000) -> None:
        self._most_kinds = most_kinds
        self._counts: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    def count(self, kind: str) -> int:
        """Count an event of a kind. Return the new count if it should be logged, otherwise 0.

        The first, tenth, hundredth, ... event of a kind should be logged.
        """
        with self._lock:
            is_known = kind in self._counts or len(self._counts) < self._most_kinds
            known = kind if is_known else None
            self._counts[known] += 1
            n = self._counts[known]
        return n if str(n).rstrip("0") == "1" else 0
