"""Runs: their requests, their progress, and which process may write to them."""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select, update

from metafleet.db.records import (
    EXPERIMENTS,
    RUNS,
    SWEEP_TRIALS,
    NewRun,
    RunRecord,
    RunStatus,
    utc_now,
)
from metafleet.db.repositories.experiments import ExperimentRepository, check_name
from metafleet.db.rowmap import read, to_row
from metafleet.db.upsert import Row, skip_ids_in_use, upsert
from metafleet.errors import ConfigError, DatabaseError, FencedError, RunNotFoundError
from metafleet.seeds import MAX_SEED

LATEST = "latest"
MAX_ID = 2**31 - 1
# no vowels, to form no words; no look-alikes; a letter first, so that it is not a number
_FIRST = "bcdfghjkmnpqrstvwxz"
_REST = _FIRST + "23456789"
_UID_LENGTH = 8
_NOTHING: Mapping[str, Any] = {}


class RunRepository:
    """Runs. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def add(self, new: NewRun) -> RunRecord:
        """Add a run in status ``created`` or ``queued``. If its experiment is new, add it too.

        Raises:
            ConfigError: the database cannot store a name or the seed, or the run's name is
                reserved or is another run's uid.
        """
        check_name(new.name, "run")
        refuse_reserved(new.name)
        if self._find_by(RUNS.c.uid == new.name) is not None:
            raise ConfigError(f"run name {new.name!r} is another run's uid; choose another name")
        if not 0 <= new.seed <= MAX_SEED:
            raise ConfigError(f"seed={new.seed}; expected 0 <= seed <= {MAX_SEED}")
        experiment = ExperimentRepository(self._session).get_or_add(new.experiment)
        row = {
            **_row_of(new),
            "experiment_id": experiment.id,
            "status": RunStatus.QUEUED if new.detached else RunStatus.CREATED,
            "created_at": utc_now(),
        }
        while True:
            uid = secrets.choice(_FIRST) + "".join(
                secrets.choice(_REST) for _ in range(_UID_LENGTH - 1)
            )
            if self._find_by(or_(RUNS.c.uid == uid, RUNS.c.name == uid)) is None:
                upsert(self._session, RUNS, [{**row, "uid": uid}], keys=["uid"], overwrite=False)
                return self.get(uid)

    def put_back(self, run: RunRecord, *, may_renumber: bool = False) -> int:
        """Restore a run that the database lost or has in an earlier state. Return the run's id.

        A row with a later epoch, or with more steps, stays as it is.

        Args:
            run: the run's last known state.
            may_renumber: whether to give the run a new id if another run has its id in this
                database.

        Raises:
            DatabaseError: another run has its id in this database, and ``may_renumber`` is False.
        """
        found = self._find_by(RUNS.c.uid == run.uid)
        if found is not None:
            if (found.epoch, found.steps_done) < (run.epoch, run.steps_done):
                self._update(found.id, _row_of(run))
            return found.id
        other = self._find_by(RUNS.c.id == run.id)
        if other is not None and not may_renumber:
            raise DatabaseError(
                f"run {run.id} is {other.uid} in this database, and was {run.uid}: another was put "
                "in the place of the one in use"
            )
        experiment = ExperimentRepository(self._session).get_or_add(run.experiment)
        row = {**_row_of(run), "uid": run.uid, "experiment_id": experiment.id}
        if other is None:
            row["id"] = run.id
        upsert(self._session, RUNS, [row], keys=["uid"], overwrite=False)
        skip_ids_in_use(self._session, RUNS)
        return self.get(run.uid).id

    def get(self, ref: int | str) -> RunRecord:
        """Return a run, given its id, uid, name (the newest run of that name) or "latest".

        Raises:
            RunNotFoundError: there is no such run; the message names the newest run.
        """
        found = self.find(ref)
        if found is None:
            raise RunNotFoundError(self._not_found(ref))
        return found

    def find(self, ref: int | str) -> RunRecord | None:
        """Return a run like ``get``, or None."""
        if ref == LATEST:
            return self._find_by(None)
        number = _as_id(ref)
        found = None if number is None else self._find_by(RUNS.c.id == number)
        if found is None and isinstance(ref, str) and "\0" not in ref:
            found = self._find_by(RUNS.c.uid == ref) or self._find_by(RUNS.c.name == ref)
        return found

    def list(
        self,
        *,
        limit: int | None = 20,
        status: RunStatus | None = None,
        experiment: str | None = None,
        archived: bool | None = None,
    ) -> tuple[RunRecord, ...]:
        """Return runs, newest first.

        Args:
            limit: maximum number of runs; None for all.
            status: return only runs in this status; None for all.
            experiment: return only runs of the experiment with this name; None for all.
            archived: True for archived runs only, False for the other runs only; None for all.
        """
        query = _select_runs().order_by(RUNS.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(RUNS.c.status == status)
        if experiment is not None:
            query = query.where(EXPERIMENTS.c.name == experiment)
        if archived is not None:
            query = query.where(RUNS.c.archived == archived)
        return read(self._session, RunRecord, query)

    def count_by_status(self, *, archived: bool = False) -> dict[str, int]:
        """Return status -> number of runs; a status without runs is left out."""
        query = select(RUNS.c.status, func.count()).where(RUNS.c.archived == archived)
        rows = self._session.execute(query.group_by(RUNS.c.status))
        return {status.value: count for status, count in rows}

    def list_of_sweep(self, sweep_id: int) -> tuple[RunRecord, ...]:
        """Return the runs of the trials of a sweep."""
        query = _select_runs().join(SWEEP_TRIALS, SWEEP_TRIALS.c.run_id == RUNS.c.id)
        return read(self._session, RunRecord, query.where(SWEEP_TRIALS.c.sweep_id == sweep_id))

    def list_attached(self) -> tuple[RunRecord, ...]:
        """Return the open runs that a process created or executes itself, without a server."""
        open_ = (RunStatus.CREATED, RunStatus.RUNNING)
        attached = (RUNS.c.status.in_(open_), ~RUNS.c.detached, RUNS.c.owner.is_not(None))
        return read(self._session, RunRecord, _select_runs().where(*attached))

    def mark_status(self, run_id: int, status: RunStatus, *, error: str | None = None) -> None:
        """Set a run's status and error, and its times of start and end.

        If the run ends or returns to the queue, its owner is cleared. If the run returns to the
        queue, the run is also marked as detached.

        Args:
            run_id: the run's id.
            status: the new status.
            error: the reason for the status; None clears an earlier error.

        Raises:
            RunNotFoundError: no such run.
        """
        now = utc_now()
        values: dict[str, Any] = {"status": status, "error": error}
        if status is RunStatus.RUNNING:
            values["started_at"] = func.coalesce(RUNS.c.started_at, now)
        if status is RunStatus.QUEUED:
            values["detached"] = True
        if status.is_final or status is RunStatus.QUEUED:
            values["owner"] = None
        values["finished_at"] = now if status.is_final else None
        self._update(run_id, values)

    def set_progress(
        self,
        run_id: int,
        *,
        steps_done: int | None = None,
        checkpoint_sha256: str | None = None,
    ) -> None:
        """Set the run's progress; None keeps a value. Raises the errors of ``mark_status``."""
        given = {"steps_done": steps_done, "checkpoint_sha256": checkpoint_sha256}
        values = {name: value for name, value in given.items() if value is not None}
        if values:
            self._update(run_id, values)

    def set_provenance(self, run_id: int, *, host: str, fingerprint: dict[str, str]) -> None:
        """Record the host and the numerics fingerprint with which the run continues."""
        self._update(run_id, {"host": host, "fingerprint": fingerprint})

    def keep_calibration(self, run_id: int, calibration: Mapping[str, Any]) -> Mapping[str, Any]:
        """Store a run's calibration unless it has one already. Return the stored calibration.

        Raises:
            RunNotFoundError: no such run.
        """
        statement = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.calibration.is_(None))
        self._session.execute(statement.values(calibration=dict(calibration)))
        return self.get(run_id).calibration or calibration

    def next_epoch(self, run_id: int) -> int:
        """Take over a run: raise its epoch by one. Return this epoch, which no other caller gets.

        Raises:
            RunNotFoundError: no such run.
        """
        epoch = self._raise_epoch(RUNS.c.id == run_id)
        if epoch is None:
            raise RunNotFoundError(self._not_found(run_id))
        return epoch

    def claim(
        self, run_id: int, *, seen_epoch: int, beyond: int = 0, attach_to: str | None = None
    ) -> int:
        """Take over a run that is still at ``seen_epoch``. Return the new epoch.

        Args:
            run_id: the run's id.
            seen_epoch: the run's epoch when the caller last read it.
            beyond: a number. The new epoch is greater than ``seen_epoch`` and than this number.
            attach_to: name of the process that executes the run from now on. If it is given,
                servers do not take the run.

        Raises:
            FencedError: another process took the run over since the caller read it.
            RunNotFoundError: no such run.
        """
        epoch = self._raise_epoch(
            RUNS.c.id == run_id,
            RUNS.c.epoch == seen_epoch,
            values={"owner": attach_to, "detached": False} if attach_to else {},
            beyond=beyond,
        )
        if epoch is None:
            raise self._fenced(run_id, seen_epoch)
        return epoch

    def cancel(self, run_id: int) -> RunRecord:
        """Cancel a run. If it is running, its process stops when it notices the new epoch.

        Status and epoch change in one transaction. After this transaction, the orchestrator cannot
        write any row, especially not a late "finished". Cancelling a cancelled run changes nothing.

        Returns:
            The run as it was before this call.

        Raises:
            ConfigError: the run has ended already.
            RunNotFoundError: no such run.
        """
        query = select(RUNS.c.status).where(RUNS.c.id == run_id).with_for_update()
        self._session.scalar(query)
        run = self.get(run_id)
        if run.status is RunStatus.CANCELLED:
            return run
        if run.status.is_final:
            raise ConfigError(
                f"run {run_id} is {run.status} already; only a run that waits or runs can be "
                "cancelled"
            )
        self._raise_epoch(RUNS.c.id == run_id)
        self.mark_status(run_id, RunStatus.CANCELLED)
        return run

    def is_held(self, run_id: int, *, owner: str, epoch: int) -> bool:
        """Return whether ``owner`` executes the run at ``epoch``."""
        query = select(RUNS.c.id).where(
            RUNS.c.id == run_id, RUNS.c.owner == owner, RUNS.c.epoch == epoch
        )
        return self._session.scalar(query) is not None

    def hold(self, run_id: int, *, epoch: int, uid: str | None = None) -> None:
        """Check that the run is at ``epoch``, and lock it until the transaction ends.

        Raises:
            FencedError: the run is at another epoch.
            RunNotFoundError: there is no such run, or its uid is not ``uid``.
        """
        query = select(RUNS.c.epoch, RUNS.c.uid).where(RUNS.c.id == run_id)
        found = self._session.execute(query.with_for_update()).one_or_none()
        if found is not None and uid not in (None, found.uid):
            raise RunNotFoundError(self._not_found(str(uid)))
        if found is None or found.epoch != epoch:
            raise self._fenced(run_id, epoch)

    def _raise_epoch(
        self,
        *conditions: ColumnElement[bool],
        values: Mapping[str, Any] = _NOTHING,
        beyond: int = 0,
    ) -> int | None:
        highest = case((RUNS.c.epoch < beyond, beyond), else_=RUNS.c.epoch)
        raised = {**values, "epoch": highest + 1}
        statement = update(RUNS).where(*conditions).values(raised)
        epoch: int | None = self._session.scalar(statement.returning(RUNS.c.epoch))
        return epoch

    def _update(self, run_id: int, values: dict[str, Any]) -> None:
        statement = update(RUNS).where(RUNS.c.id == run_id).values(values)
        if self._session.scalar(statement.returning(RUNS.c.id)) is None:
            raise RunNotFoundError(self._not_found(run_id))

    def _find_by(self, condition: ColumnElement[bool] | None) -> RunRecord | None:
        query = _select_runs().order_by(RUNS.c.id.desc()).limit(1)
        if condition is not None:
            query = query.where(condition)
        return next(iter(read(self._session, RunRecord, query)), None)

    def _fenced(self, run_id: int, epoch: int) -> FencedError | RunNotFoundError:
        current = self._session.scalar(select(RUNS.c.epoch).where(RUNS.c.id == run_id))
        if current is None:
            return RunNotFoundError(self._not_found(run_id))
        return FencedError(
            f"run {run_id} is at epoch {current}, not {epoch}; another orchestrator took it over, "
            "so this one stops writing"
        )

    def _not_found(self, ref: int | str) -> str:
        count = self._session.scalar(select(func.count()).select_from(RUNS))
        newest = self._find_by(None)
        if newest is None:
            return f"no run {ref!r}: there are no runs yet; start one with `metafleet submit`"
        return (
            f"no run {ref!r} among {count}; expected an id, a uid, a name or {LATEST!r}: the "
            f"newest is {newest.id} ({newest.uid}, {newest.name!r}); `metafleet runs list` has more"
        )


def refuse_reserved(name: str) -> None:
    """Check that a run's name is not the reserved word "latest".

    Raises:
        ConfigError: the name is "latest", which stands for the newest run.
    """
    if name == LATEST:
        raise ConfigError(f"run name {name!r} stands for the newest run; choose another name")


def _as_id(ref: int | str) -> int | None:
    if isinstance(ref, str) and not (ref.isascii() and ref.isdigit() and len(ref) <= 10):
        return None
    number = int(ref)
    return number if 0 < number <= MAX_ID else None


def _row_of(run: NewRun) -> Row:
    """Return a run's columns without those that identify it."""
    names = ("id", "uid", "experiment", "experiment_id")
    return {name: value for name, value in to_row(run).items() if name not in names}


def _select_runs() -> Select[Any]:
    return select(RUNS, EXPERIMENTS.c.name.label("experiment")).join(
        EXPERIMENTS, RUNS.c.experiment_id == EXPERIMENTS.c.id
    )
