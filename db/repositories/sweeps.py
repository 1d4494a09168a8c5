"""Sweeps and their trials."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from metafleet.db.records import (
    SWEEP_TRIALS,
    SWEEPS,
    RunStatus,
    SweepRecord,
    TrialRecord,
    utc_now,
)
from metafleet.db.repositories.experiments import check_name
from metafleet.db.rowmap import read, select_fields, to_row
from metafleet.errors import ConfigError, FencedError


class SweepRepository:
    """Sweeps. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def add(self, name: str, *, config: Mapping[str, Any], plan: Mapping[str, Any]) -> SweepRecord:
        """Add a sweep without trials, in status ``created``.

        Raises:
            ConfigError: the database cannot store the name, or another process added a sweep of
                this name in this moment.
        """
        check_name(name, "sweep")
        row = {"name": name, "config": dict(config), "plan": dict(plan), "n_trials": 0}
        row |= {"detached": False, "status": RunStatus.CREATED, "epoch": 0, "deaths": 0}
        try:
            self._session.execute(insert(SWEEPS).values(row | {"created_at": utc_now()}))
        except IntegrityError as error:
            raise ConfigError(
                f"another process began sweep {name!r} just now; choose another --name"
            ) from error
        return self.get(name)

    def find(self, ref: int | str) -> SweepRecord | None:
        """Return the sweep with an id (int) or a name (str), or None."""
        at = SWEEPS.c.id == ref if isinstance(ref, int) else SWEEPS.c.name == ref
        query = select_fields(SWEEPS, SweepRecord).where(at)
        return next(iter(read(self._session, SweepRecord, query)), None)

    def get(self, ref: int | str) -> SweepRecord:
        """Return the sweep with an id (int) or a name (str).

        Raises:
            ConfigError: there is no such sweep; the message names others.
        """
        found = self.find(ref)
        if found is None:
            names = [one.name for one in self.list()[:5]]
            known = f"the newest are: {', '.join(names)}" if names else "there are no sweeps yet"
            raise ConfigError(f"no sweep {ref!r:.80}; {known}")
        return found

    def list(self) -> tuple[SweepRecord, ...]:
        """Return all sweeps, newest first."""
        query = select_fields(SWEEPS, SweepRecord).order_by(SWEEPS.c.id.desc())
        return read(self._session, SweepRecord, query)

    def replace(self, sweep_id: int, *, config: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """Give a sweep that has no runs another configuration and plan; forget refused trials."""
        self._session.execute(delete(SWEEP_TRIALS).where(SWEEP_TRIALS.c.sweep_id == sweep_id))
        self._update(sweep_id, {"config": dict(config), "plan": dict(plan)})

    def request(self, sweep_id: int, *, n_trials: int, parallel: int | None) -> None:
        """Record how many configurations to try, and how many at a time."""
        self._update(sweep_id, {"n_trials": n_trials, "parallel": parallel})

    def claim(self, sweep_id: int, *, seen_epoch: int, owner: str) -> SweepRecord:
        """Take over the control of a sweep that is still at ``seen_epoch``. Return its record.

        Raises:
            FencedError: another process took the sweep over since the caller read it.
        """
        values = {"epoch": seen_epoch + 1, "owner": owner, "detached": False}
        values |= {"status": RunStatus.RUNNING, "error": None, "finished_at": None, "deaths": 0}
        statement = update(SWEEPS).where(SWEEPS.c.id == sweep_id, SWEEPS.c.epoch == seen_epoch)
        found = self._session.execute(statement.values(values).returning(SWEEPS.c.id)).all()
        if not found:
            raise _fenced(sweep_id)
        return self.get(sweep_id)

    def hold(self, sweep_id: int, *, epoch: int) -> None:
        """Check that the sweep is at ``epoch``, and lock it until the transaction ends.

        Raises:
            FencedError: another process controls the sweep, or the sweep was cancelled.
        """
        query = select(SWEEPS.c.epoch).where(SWEEPS.c.id == sweep_id).with_for_update()
        if self._session.scalar(query) != epoch:
            raise _fenced(sweep_id)

    def mark_status(self, sweep_id: int, status: RunStatus, *, error: str | None = None) -> None:
        """Set a sweep's status and error. If the sweep does not run, its owner is cleared."""
        values: dict[str, Any] = {"status": status, "error": error}
        values["finished_at"] = utc_now() if status.is_final else None
        if status is not RunStatus.RUNNING:
            values["owner"] = None
        if status is RunStatus.QUEUED:
            values["detached"] = True
        self._update(sweep_id, values)

    def cancel(self, sweep_id: int) -> SweepRecord:
        """Cancel a sweep; its controlling process can add no more trials. Return it as it was.

        Raises:
            ConfigError: the sweep has ended already.
        """
        self._session.scalar(select(SWEEPS.c.id).where(SWEEPS.c.id == sweep_id).with_for_update())
        before = self.get(sweep_id)
        if before.status in (RunStatus.FINISHED, RunStatus.FAILED):
            raise ConfigError(f"sweep {before.name!r} is {before.status} already")
        self._update(sweep_id, {"epoch": before.epoch + 1})
        self.mark_status(sweep_id, RunStatus.CANCELLED)
        return before

    def add_trial(self, trial: TrialRecord) -> None:
        """Add a trial. The caller holds the sweep, so that no other process adds one."""
        self._session.execute(insert(SWEEP_TRIALS).values(to_row(trial)))
        self._update(trial.sweep_id, {"deaths": 0})

    def trials(self, sweep_id: int) -> tuple[TrialRecord, ...]:
        """Return the trials of a sweep, in the order of their numbers."""
        query = select_fields(SWEEP_TRIALS, TrialRecord).order_by(SWEEP_TRIALS.c.number)
        return read(self._session, TrialRecord, query.where(SWEEP_TRIALS.c.sweep_id == sweep_id))

    def find_trial(self, run_id: int) -> TrialRecord | None:
        """Return the trial that a run belongs to; None if the run belongs to no sweep."""
        query = select_fields(SWEEP_TRIALS, TrialRecord).where(SWEEP_TRIALS.c.run_id == run_id)
        return next(iter(read(self._session, TrialRecord, query)), None)

    def note_pruned(self, run_id: int, *, step: int) -> None:
        """Record that a pruner ended a trial, unless that is recorded already."""
        is_its = (SWEEP_TRIALS.c.run_id == run_id, SWEEP_TRIALS.c.pruned_step.is_(None))
        self._session.execute(update(SWEEP_TRIALS).where(*is_its).values(pruned_step=step))

    def requeue(self, sweep_id: int, *, seen_epoch: int) -> None:
        """Leave the control of a sweep that is still at ``seen_epoch`` to servers.

        Raises:
            FencedError: another process took the sweep over since the caller read it.
        """
        self.hold(sweep_id, epoch=seen_epoch)
        self._update(sweep_id, {"epoch": seen_epoch + 1, "deaths": 0})
        self.mark_status(sweep_id, RunStatus.QUEUED)

    def _update(self, sweep_id: int, values: dict[str, Any]) -> None:
        self._session.execute(update(SWEEPS).where(SWEEPS.c.id == sweep_id).values(values))


def _fenced(sweep_id: int) -> FencedError:
    return FencedError(
        f"sweep {sweep_id} was cancelled, or another process controls it now; this one stops"
    )
