"""Whose arithmetic a run's is: recorded with its first step."""

import json
from collections.abc import Callable

from metafleet.fingerprint import fingerprint as describe_arithmetic
from orchestrator.events import Observer, StepDone

OUTER = "outer"
"""Key of the orchestrator's own fingerprint beside that of the run's workers."""


def outer_fingerprint() -> str:
    """Describe the arithmetic of the outer update, which this process does on its CPU."""
    found = describe_arithmetic("cpu")
    return json.dumps({name: found[name] for name in ("torch", "code", "cpu", "probe")})


class OriginRecorder:
    """An observer that has the origin recorded after the first step, and passes everything on."""

    def __init__(self, observer: Observer, record: Callable[[], bool]) -> None:
        self._observer, self._record = observer, record
        self._is_recorded = False
        self.on_start = observer.on_start
        self.on_evaluation = observer.on_evaluation
        self.on_notice = observer.on_notice

    def on_step(self, event: StepDone) -> None:
        """Record the origin once, then pass the step on."""
        if not self._is_recorded:
            self._is_recorded = self._record()
        self._observer.on_step(event)
