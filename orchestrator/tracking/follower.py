"""Sends the committed rows of a run to a sink: what the sink lacks, and each once."""

import math
from typing import Final

from metafleet.db.engine import Database
from metafleet.db.repositories import (
    EvaluationRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.orchestrator.tracking.sink import Mark, Sink, name_of

_STEPS_AT_ONCE: Final = 1_000


class Follower:
    """Reads the new rows of one run and passes them to a sink. Not thread-safe.

    Args:
        database: an open database, which is only read.
        uid: the run's uid.
        sink: receives the rows.
    """

    def __init__(self, database: Database, uid: str, sink: Sink) -> None:
        self._database, self._uid, self._sink = database, uid, sink
        self._mark: Mark | None = None

    def send(self) -> None:
        """Send the rows that the sink lacks. Raises the errors of the sink and the database."""
        while self._send_some() == _STEPS_AT_ONCE:
            pass

    def end(self) -> None:
        """Send the rows that the sink lacks, and the run's status; then close the sink."""
        self.send()
        with self._database.session(read_only=True) as session:
            run = RunRepository(session).get(self._uid)
        self._sink.end(run)
        self._sink.close()

    def _send_some(self) -> int:
        """Send at most a thousand steps; return their number."""
        with self._database.session(read_only=True) as session:
            run = RunRepository(session).get(self._uid)
            if self._mark is None:
                self._mark = self._sink.open(run)
            mark = self._mark
            steps = OuterStepRepository(session).list(
                run.id, after_step=mark.step, limit=_STEPS_AT_ONCE
            )
            evaluations = EvaluationRepository(session).list(run.id)
        # evaluations of later steps wait until these steps are sent
        last = steps[-1].step if len(steps) == _STEPS_AT_ONCE else math.inf
        new = [e for e in evaluations if e.step <= last and name_of(e) not in mark.evaluations]
        if steps or new:
            self._mark = Mark(
                step=steps[-1].step if steps else mark.step,
                evaluations=mark.evaluations | {name_of(one) for one in new},
            )
            self._sink.send(steps, new, self._mark)
        return len(steps)
