"""The recorder: a thread that writes a run's rows during training."""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection

from metafleet.contracts.logs import in_this_context
from metafleet.db.engine import Database
from metafleet.db.records import (
    AttemptCountRecord,
    AttemptLogRecord,
    AttemptRecord,
    CheckpointRecord,
    EpisodeResultsRecord,
    EvaluationRecord,
    InnerCurveRecord,
    InnerRatesRecord,
    JobRecord,
    OuterStepRecord,
    RunRecord,
    RunStatus,
)
from metafleet.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    MetafleetError,
    RunNotFoundError,
)
from metafleet.orchestrator.recording.held_run import HeldRun, keep_rows, lost_text
from metafleet.orchestrator.recording.open_rows import OpenRows
from metafleet.orchestrator.recording.rows import EpochRow, Row, StatusChange
from metafleet.orchestrator.recording.spill import SpillFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """Limits on rows that wait to be written to the database.

    Attributes:
        max_rows: maximum number of rows in memory. Beyond that, rows go to the spill file.
        batch_rows: maximum number of rows in one transaction.
        linger_s: time for which a row waits, in seconds, so that one transaction can write more
            rows. If the process is killed, rows that were recorded within this time may be lost.
        first_retry_s, last_retry_s: shortest and longest pause in seconds between attempts while
            the database is unreachable. Each pause is twice as long as the one before, up to the
            longest.
    """

    max_rows: int = 10_000
    batch_rows: int = 1_000
    linger_s: float = 0.25
    first_retry_s: float = 0.2
    last_retry_s: float = 5.0


class Recorder:
    """Writes rows of one run in the background, without losing or duplicating any.

    Rows wait in memory and are written in batches. If the database is unreachable, the rows stay in
    memory at first and are later moved to the spill file. When the database is reachable again, the
    rows in the file are written to the database in order, either by this recorder or by the run's
    next recorder. A crash after ``flush`` does not lose rows that were recorded before ``flush``.

    Thread-safe. As a context manager, the recorder closes itself on exit.

    Args:
        database: an open database; the recorder does not close it.
        run: the run as it was read before this orchestrator raised its epoch.
        epoch: the fencing epoch that this orchestrator holds. Rows are written only while the run
            has this epoch.
        owner: the run's owner in the database; "" if it has none.
        spill_path: file for rows that cannot be written to the database. All recorders of a run
            must use the same file.
        limits: limits on waiting rows.
    """

    def __init__(
        self,
        database: Database,
        run: RunRecord,
        *,
        epoch: int,
        owner: str = "",
        spill_path: Path,
        limits: RecorderLimits | None = None,
    ) -> None:
        self._database = database
        self._run_id = run.id
        self._limits = limits or RecorderLimits()
        self._changed = threading.Condition()
        self._held = HeldRun(database, run, epoch=epoch, owner=owner, lock=self._changed)
        # everything below is accessed under the condition's lock
        self._rows = OpenRows(SpillFile(spill_path), self._held.lost_row)
        self._notices: list[str] = []
        self._is_urgent = self._is_closing = False
        self._failure: MetafleetError | None = None
        self._away_since: float | None = None
        self._away_reason = ""
        work = in_this_context(self._work)
        self._thread = threading.Thread(target=work, name=f"recorder-{run.id}", daemon=True)
        self._listening = ExitStack()
        self._listening.enter_context(database.kept_by(self._keep))
        self._thread.start()

    def record_step(self, step: OuterStepRecord, jobs: Sequence[JobRecord] = ()) -> None:
        """Record a committed outer step and its jobs.

        Raises:
            FencedError: another orchestrator took the run over.
            DatabaseError: the database rejects the rows. The rows are kept in the spill file (the
                local file of rows that are not in the database yet).
        """
        self._add((step, *jobs))

    def record_jobs(self, jobs: Sequence[JobRecord]) -> None:
        """Record jobs outside outer steps, e.g. of a validation; raise as ``record_step`` does."""
        self._add(jobs)

    def record_attempts(
        self,
        attempts: Sequence[AttemptRecord | AttemptLogRecord],
        counts: Sequence[AttemptCountRecord],
    ) -> None:
        """Record attempts that did not count, logs of attempts, and counters.

        Raises the errors of ``record_step``.
        """
        self._add((*attempts, *counts))

    def record_evaluation(
        self, evaluation: EvaluationRecord, episodes: EpisodeResultsRecord
    ) -> None:
        """Record a validation or a test; raise as ``record_step`` does."""
        self._add((evaluation, episodes))

    def record_inner_curve(self, curve: InnerCurveRecord) -> None:
        """Record results after each inner step; raise as ``record_step`` does."""
        self._add((curve,))

    def record_inner_rates(self, rates: InnerRatesRecord) -> None:
        """Record learned step sizes of inner steps; raise as ``record_step`` does."""
        self._add((rates,))

    def record_checkpoint(self, checkpoint: CheckpointRecord) -> None:
        """Record a checkpoint that is on disk; raise as ``record_step`` does."""
        self._add((checkpoint,))

    def record_status(self, status: RunStatus, *, error: str | None = None) -> None:
        """Record a change of the run's status, in order with the other rows."""
        self._add((StatusChange(status=status, error=error),))

    def raise_epoch(self, beyond: int = 0) -> int:
        """Begin a new epoch of the run; raise FencedError if another orchestrator has done so.

        Rows that are recorded after this call belong to the new epoch. If a batch is being written,
        this call waits until the batch is written. If the database's answer is lost, the caller can
        repeat the call.

        Args:
            beyond: a lower bound. The new epoch is greater than this number and greater than the
                current epoch.
        """
        return self._held.raise_epoch(beyond, check=self._raise_failure)

    def keep_calibration(self, calibration: Mapping[str, Any]) -> Mapping[str, Any]:
        """Store the run's calibration without delay. If a calibration is stored already, keep it.

        Returns:
            The calibration that is stored after the call.

        Raises:
            FencedError: another orchestrator took the run over.
            DatabaseError: the calibration cannot be stored. In this case, it must not be used.
        """
        return self._held.keep_calibration(calibration)

    def is_current(self) -> bool:
        """Return whether we still own the run: the database has no later epoch than ours.

        Epochs only rise. If the database has an earlier epoch, or the run is missing, the database
        was restored to an earlier state. In this case, we still own the run.

        Raises:
            DatabaseError: the database cannot be queried now.
        """
        return self._held.is_current()

    def take_notices(self) -> list[str]:
        """Return the notices for users about the database, each once."""
        with self._changed:
            taken, self._notices = self._notices, []
            return taken

    @property
    def status(self) -> str | None:
        """One line about a problem, for display; None if there is none."""
        with self._changed:
            if self._failure is not None:
                return str(self._failure)
            if self._away_since is None:
                return None
            away_s = time.monotonic() - self._away_since
            text = f"database away for {away_s:.0f} s: {self._rows.n_in_memory} rows waiting"
            if not self._rows.file.is_empty():
                text += f", more in {self._rows.file.path}"
            if self._rows.refusal is not None:
                text += f", {self._rows.file.path} cannot be written: {self._rows.refusal.strerror}"
            return f"{text}; {self._away_reason}"

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Write the rows recorded so far to the database or the spill file.

        After that, a crash of this process does not lose these rows. The call does not wait for
        rows that another thread records during the call.

        Args:
            timeout_s: maximum time to wait for the database, in seconds. If the database is known
                to be unreachable, the call does not wait.

        Returns:
            True if all rows are in the database; False if some rows are in the spill file.

        Raises:
            FencedError: another orchestrator took the run over.
            DatabaseError: the database rejects the rows, or the rows can be written neither to the
                database nor to the spill file.
        """
        with self._changed:
            n_rows = self._rows.n_added
            self._is_urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_settled(n_rows), timeout_s)
            self._is_urgent = False
            self._raise_failure()
            if self._rows.n_left < n_rows:
                self._rows.spill()
                self._rows.require_room(self._run_id, self._database.url)
            return self._rows.file.is_empty()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Flush and stop; may be called twice. Return and raise as ``flush`` does."""
        try:
            return self.flush(timeout_s)
        finally:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._listening.close()
            self._thread.join(timeout=1.0)  # a hung server may block it; its rows are spilled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except MetafleetError as failure:
            if error is None:
                raise
            logger.warning("run=%d %s", self._run_id, failure)  # the first error matters more

    # --- the caller's side

    def _add(self, rows: Iterable[Row]) -> None:
        with self._changed:
            self._raise_failure()
            self._rows.add(EpochRow(self._held.epoch, row) for row in rows)
            if self._rows.n_buffered >= 2 * self._limits.max_rows:
                self._rows.spill()  # the thread should do this, but a hung server blocks it
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure)) from self._failure

    def _is_settled(self, n_rows: int) -> bool:
        is_over = self._failure is not None or self._away_since is not None
        return is_over or (self._rows.n_left >= n_rows and self._rows.file.is_empty())

    # --- the thread's side

    def _work(self) -> None:
        pause_s = self._limits.first_retry_s
        while self._wait_for_work():
            try:
                with self._held.writing:
                    self._write_next()
            except DatabaseUnavailableError as error:
                self._note_away(error)
                self._pause(pause_s)
                pause_s = min(2 * pause_s, self._limits.last_retry_s)
            except MetafleetError as error:
                self._fail(error)
                return
            except Exception as error:  # a thread that dies silently would lose rows
                logger.exception("run=%d recorder", self._run_id)
                self._fail(DatabaseError(f"rows of run {self._run_id} cannot be written: {error}"))
                return
            else:
                pause_s = self._limits.first_retry_s
                self._note_back()

    def _wait_for_work(self) -> bool:
        """Wait for rows, and a little longer for more; return False when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._has_work())
            if self._is_closing:
                return False
            self._changed.wait_for(self._is_pressing, self._limits.linger_s)
            return not self._is_closing

    def _has_work(self) -> bool:
        return bool(self._rows.batch) or not self._rows.is_empty()

    def _is_pressing(self) -> bool:
        is_full = self._rows.n_buffered >= self._limits.batch_rows
        return self._is_urgent or self._is_closing or is_full or bool(self._rows.batch)

    def _write_next(self) -> None:
        """Write the oldest rows: a failed batch, else the file and then the next batch."""
        if not self._rows.batch:
            self._rows.replay(self._held.write, batch_rows=self._limits.batch_rows)
            with self._changed:
                self._rows.begin_batch(self._limits.batch_rows)
        if self._rows.batch:
            self._held.write(self._rows.batch)
        with self._changed:
            self._rows.end_batch()
            self._changed.notify_all()

    def _keep(self, session: Connection) -> None:
        """Save all rows of the run from a database file that is about to be lost."""
        run = self._held.move(session)
        n_rows = keep_rows(session, run, self._rows.file, batch_rows=self._limits.batch_rows)
        with self._changed:
            self._notices.append(
                f"the file of database {self._database.url} was deleted or replaced while in use; "
                f"{n_rows} rows of run {self._run_id} were saved, and go into the new database"
            )
            self._changed.notify_all()

    def _note_away(self, error: DatabaseUnavailableError) -> None:
        with self._changed:
            if self._away_since is None:
                logger.warning("run=%d %s", self._run_id, error)
                self._away_since = time.monotonic()
            self._away_reason = str(error)
            self._rows.drop_spilled_batch()
            self._changed.notify_all()

    def _note_back(self) -> None:
        with self._changed:
            if self._away_since is not None:
                away_s = time.monotonic() - self._away_since
                logger.info("run=%d database back after %.1f s", self._run_id, away_s)
                self._away_since = None
                self._changed.notify_all()

    def _pause(self, pause_s: float) -> None:
        deadline = time.monotonic() + pause_s
        with self._changed:
            while not self._is_closing and (left_s := deadline - time.monotonic()) > 0:
                if self._rows.n_in_memory >= self._limits.max_rows and not self._rows.refusal:
                    self._rows.spill()
                self._changed.wait(left_s)
            self._rows.refusal = None  # try the file again after each pause
            self._rows.drop_spilled_batch()

    def _fail(self, error: MetafleetError) -> None:
        with self._changed:
            n_rows = self._rows.n_in_memory
            self._rows.spill()
            fate = "lost" if self._rows.n_in_memory else f"kept in {self._rows.file.path}"
            text = f"{error} ({n_rows} rows are {fate})" if n_rows else str(error)
            if isinstance(error, RunNotFoundError):
                text = lost_text(self._database.url, self._held.run, text)
            self._failure = type(error)(text)
            self._failure.__cause__ = error
            self._changed.notify_all()
