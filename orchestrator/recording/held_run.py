"""The run of a recorder in the database: raises its epoch and writes rows under it."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories import RUN_ROWS, RunRepository
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.recording.rows import EpochRow, LostRun, write_rows
from metafleet.orchestrator.recording.spill import SpillFile


class HeldRun:
    """A run that this orchestrator owns by holding its fencing epoch. Thread-safe.

    Args:
        database: an open database.
        run: the run as it was read before this orchestrator raised its epoch.
        epoch: the fencing epoch that this orchestrator holds.
        owner: the run's owner in the database; "" if it has none.
        lock: guards ``run`` and ``epoch``.

    Attributes:
        writing: lock that is held while rows are written or the epoch is raised. A thread that
            needs both locks must acquire this one before ``lock``.
    """

    def __init__(
        self,
        database: Database,
        run: RunRecord,
        *,
        epoch: int,
        owner: str,
        lock: threading.Condition,
    ) -> None:
        self._database, self._owner, self._lock = database, owner, lock
        self._first_epoch = self._epoch = self._asked_epoch = epoch
        self._run, self._is_moved = run, False
        self.writing = threading.Lock()

    @property
    def run(self) -> RunRecord:
        """Return the run as it was last read."""
        return self._run

    @property
    def epoch(self) -> int:
        """Return the epoch under which rows are recorded."""
        return self._epoch

    def lost_row(self) -> EpochRow:
        """Return the run itself as a row, to restore it in a database that has lost it."""
        return EpochRow(self._epoch, LostRun(run=replace(self._run, epoch=self._epoch)))

    def raise_epoch(self, beyond: int, *, check: Callable[[], None]) -> int:
        """Begin and return an epoch greater than ``beyond``; ``check`` may raise to refuse it."""
        with self.writing:
            self._hear_of_epoch()
            with self._database.session() as session:
                runs = self._runs_in(session)
                self._asked_epoch = max(self._epoch, beyond) + 1
                epoch = runs.claim(self._run.id, seen_epoch=self._epoch, beyond=beyond)
            with self._lock:
                check()
                self._epoch = epoch
        return epoch

    def keep_calibration(self, calibration: Mapping[str, Any]) -> Mapping[str, Any]:
        """Store ``calibration`` unless one is stored; return the stored one."""
        with self.writing, self._database.session() as session:
            runs = self._runs_in(session)
            runs.hold(self._run.id, epoch=self._epoch)
            kept = runs.keep_calibration(self._run.id, calibration)
        with self._lock:
            self._run = replace(self._run, calibration=kept)
        return kept

    def is_current(self) -> bool:
        """Return whether the database has no later epoch."""
        with self.writing:  # do not mistake an epoch that we are raising for another's
            self._hear_of_epoch()
            with self._database.session(read_only=True) as session:
                found = RunRepository(session).find(self._run.uid)
                return found is None or found.epoch <= self._epoch

    def write(self, items: Sequence[EpochRow]) -> None:
        """Write rows in one transaction; the caller holds ``writing``. Raise as ``write_rows``."""
        self._hear_of_epoch()
        write_rows(
            self._database,
            self._run,
            items,
            epoch=self._epoch,
            own_from=self._first_epoch,
            lost_run=lambda: self._run if self._is_moved else None,
        )

    def move(self, session: Connection) -> RunRecord:
        """Read the run from a database about to be lost, so that the next one gets it back."""
        found = RunRepository(session).find(self._run.uid)
        with self._lock:
            self._run, self._is_moved = found or self._run, True
        return self._run

    def _hear_of_epoch(self) -> None:
        """Adopt a requested epoch if it was raised but the answer was lost."""
        if (asked := self._asked_epoch) == self._epoch:
            return
        with self._database.session(read_only=True) as session:
            runs = RunRepository(session)
            is_raised = runs.is_held(self._run.id, owner=self._owner, epoch=asked)
        with self._lock:
            self._epoch = asked if is_raised else self._epoch

    def _runs_in(self, session: Connection) -> RunRepository:
        """Return the run repository; put our run back if the database has been replaced."""
        runs = RunRepository(session)
        if self._is_moved:
            runs.put_back(self._run)
        return runs


_GAP: Final = -1
"""Epoch of rows that only fill gaps: a database already had them, perhaps in newer form."""


def keep_rows(session: Connection, run: RunRecord, file: SpillFile, *, batch_rows: int) -> int:
    """Append the run's own row and all its other rows to ``file``; return the number of rows.

    Raises:
        DatabaseUnavailableError: the rows cannot be written to the file. In this case, the caller
            must keep the database open.
    """
    rows: Iterator[EpochRow] = chain(
        [EpochRow(run.epoch, LostRun(run=run))],
        (EpochRow(_GAP, row) for rows in RUN_ROWS for row in rows(session).stream(run.id)),
    )
    n_rows = -1  # do not count the run itself
    try:
        while items := list(islice(rows, batch_rows)):
            file.append(items)
            n_rows += len(items)
    except OSError as error:
        raise DatabaseUnavailableError(
            f"the database file of run {run.id} was deleted or replaced while in use, and "
            f"{file.path} cannot take what was in it ({error.strerror}); make room"
        ) from error
    return n_rows


def lost_text(url: str, run: RunRecord, reason: str) -> str:
    """Return a message that the database at ``url`` has lost a run, and what to do."""
    return (
        f"database {url} lost run {run.id} while it ran: {reason}; restore it if there is a copy, "
        f"then `metafleet runs resume {run.uid}` puts the run back with what is kept, and goes on"
    )
