"""Counts and deletes the rows of a run's jobs and attempts, a few at a time."""

from typing import Final

from sqlalchemy import Connection, Table, delete, func, select

from metafleet.db.records import ATTEMPT_LOGS, ATTEMPTS, JOBS, RUNS, RunStatus

_TABLES: Final[tuple[Table, ...]] = (JOBS, ATTEMPT_LOGS, ATTEMPTS)
"""Tables with rows for each job or attempt; all have the columns stream and step."""

ROWS_AT_ONCE: Final = 5_000


def count_job_rows(session: Connection, run_id: int) -> int:
    """Return the number of rows of a run's jobs and attempts."""
    counts = (
        session.scalar(select(func.count()).select_from(table).where(table.c.run_id == run_id))
        for table in _TABLES
    )
    return sum(count or 0 for count in counts)


def delete_job_rows(session: Connection, run_id: int, *, at_once: int = ROWS_AT_ONCE) -> int:
    """Delete about ``at_once`` rows of the jobs and attempts of a run that has ended.

    The caller owns the transaction, and calls this again until it returns 0. So other processes
    wait only for a short time, and a call that is interrupted loses nothing that must stay.

    Returns:
        The number of deleted rows: 0 if there are none left, or if the run has not ended.
    """
    status = session.scalar(select(RUNS.c.status).where(RUNS.c.id == run_id).with_for_update())
    if status is None or not RunStatus(status).is_final:
        return 0
    for table in _TABLES:
        if n_deleted := _delete_some(session, table, run_id, at_once):
            return n_deleted
    return 0


def _delete_some(session: Connection, table: Table, run_id: int, at_once: int) -> int:
    """Delete the rows of the first steps of one stream; whole steps, at least one."""
    columns = table.c
    of_run = columns.run_id == run_id
    stream = session.scalar(select(func.min(columns.stream)).where(of_run))
    if stream is None:
        return 0
    of_stream = (of_run, columns.stream == stream)
    steps = select(columns.step).where(*of_stream).order_by(columns.step)
    last = session.scalar(steps.offset(at_once - 1).limit(1))
    condition = () if last is None else (columns.step <= last,)
    return session.execute(delete(table).where(*of_stream, *condition)).rowcount
