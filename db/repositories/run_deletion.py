"""Deletes runs with all their rows."""

from sqlalchemy import Connection, delete, select

from metafleet.db.records import RUN_TAGS, RUNS, SWEEP_TRIALS, RunRecord
from metafleet.db.repositories import RUN_ROWS, RunRepository
from metafleet.errors import ConfigError


def delete_run(session: Connection, ref: str) -> RunRecord:
    """Delete a run that has ended, and all its rows. Return the run as it was before.

    The caller owns the transaction. If the run is a trial of a sweep, the sweep forgets the trial.
    Runs that were made from the deleted run keep its uid as their ``parent_uid``.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigError: the run is queued or in progress.
    """
    runs = RunRepository(session)
    run_id = runs.get(ref).id
    session.execute(select(RUNS.c.id).where(RUNS.c.id == run_id).with_for_update())
    run = runs.get(run_id)
    if not run.status.is_final:
        raise ConfigError(
            f"run {run.id} is {run.status}, so it cannot be deleted; stop it first with "
            f"`metafleet runs cancel {run.id}`"
        )
    for table in (*(rows.table for rows in RUN_ROWS), RUN_TAGS, SWEEP_TRIALS):
        session.execute(delete(table).where(table.c.run_id == run_id))
    session.execute(delete(RUNS).where(RUNS.c.id == run_id))
    return run
