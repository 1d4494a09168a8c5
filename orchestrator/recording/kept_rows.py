"""What to do for a run whose database is lost under it: save its rows, say how to go on."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from sqlalchemy import Connection

from metafleet.db.records import RunRecord
from metafleet.db.repositories import RUN_ROWS
from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.recording.rows import EpochRow, LostRun
from metafleet.orchestrator.recording.spill import SpillFile

_GAP: Final = -1
"""Epoch of rows that only fill gaps: they were in a database already, perhaps in a newer form."""


def keep_rows(session: Connection, run: RunRecord, file: SpillFile, *, batch_rows: int) -> int:
    """Append the run and all its rows to ``file``; return how many rows it has.

    Raises:
        DatabaseUnavailableError: the file cannot take them; the database is not to be let go of.
    """
    rows: Iterator[EpochRow] = chain(
        [EpochRow(run.epoch, LostRun(run=run))],
        (EpochRow(_GAP, row) for rows in RUN_ROWS for row in rows(session).stream(run.id)),
    )
    n_rows = -1  # the run itself is none
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
    """Say that the database at ``url`` knows nothing of a run any more, and what to do."""
    return (
        f"database {url} lost run {run.id} while it ran: {reason}; restore it if there is a copy, "
        f"then `metafleet runs resume {run.uid}` puts the run back with what is kept, and goes on"
    )
