"""The fingerprint of a run's arithmetic, recorded with its first step."""

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from metafleet.contracts.fingerprint import differences, explain
from metafleet.contracts.fingerprint import fingerprint as describe_arithmetic
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories import RunRepository
from metafleet.errors import DatabaseError, FingerprintError
from metafleet.orchestrator import training
from metafleet.orchestrator.training.events import Observer, StepDone
from metafleet.sources import folder_digest

log = logging.getLogger(__name__)

_TRAINING = Path(training.__file__).parent
OUTER = "outer"
"""Key of the orchestrator's fingerprint, stored with that of the run's workers."""


def outer_fingerprint() -> str:
    """Return the fingerprint of the outer update, which this process computes on its CPU."""
    found = describe_arithmetic("cpu")
    own = {name: found[name] for name in ("torch", "code", "cpu", "probe")}
    return json.dumps(own | {"training": folder_digest(_TRAINING)[:12]})


class RunProvenance:
    """What is recorded about the arithmetic with which a run began.

    Attributes:
        fingerprint: the numerics fingerprint of the workers that computed the run's first step; ""
            before the first step.
    """

    def __init__(self, database: Database, run: RunRecord) -> None:
        self._database, self._run_id = database, run.id
        recorded = dict(run.fingerprint)
        self._outer = recorded.pop(OUTER, "")
        self.fingerprint = json.dumps(recorded, sort_keys=True) if recorded else ""

    def require_same_outer(self) -> None:
        """Check that this process has the same arithmetic as the process that began the run.

        Raises:
            FingerprintError: the arithmetic of this process, which computes the outer updates,
                differs.
        """
        self._require(self._outer, outer_fingerprint())

    def require_same(self, found: str) -> None:
        """Check that ``found`` is the fingerprint of the run's first step; raise the same error."""
        self._require(self.fingerprint, found)

    def _require(self, recorded: str, found: str) -> None:
        if found_differences := differences(recorded, found):
            raise FingerprintError(
                f"run {self._run_id} began with other arithmetic than this process has: "
                f"{explain(found_differences)}, or go on where it began, or give up the same bits "
                "with --relaxed"
            )

    def record(self, text: str) -> bool:
        """Record the fingerprint ``text``; return False if the database is away."""
        if text and text != self.fingerprint:
            try:
                with self._database.session() as session:
                    RunRepository(session).set_provenance(
                        self._run_id,
                        host=socket.gethostname(),
                        fingerprint=json.loads(text) | {OUTER: outer_fingerprint()},
                    )
            except DatabaseError as error:
                log.warning("run=%d origin not recorded yet: %s", self._run_id, error)
                return False
            self.fingerprint = text
        return True


class ProvenanceRecorder:
    """An observer that records the origin after the first step and forwards all events."""

    def __init__(self, observer: Observer, record: Callable[[], bool]) -> None:
        self._observer, self._record = observer, record
        self._is_recorded = False
        self.on_start = observer.on_start
        self.on_evaluation = observer.on_evaluation
        self.on_notice = observer.on_notice

    def on_step(self, event: StepDone) -> None:
        """Record the origin once, then forward the step."""
        if not self._is_recorded:
            self._is_recorded = self._record()
        self._observer.on_step(event)
