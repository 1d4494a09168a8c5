"""Rows that a run left in its spill file when it crashed while the database was away."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord
from db.repositories import RunRepository
from metafleet.errors import MetafleetError
from orchestrator.open_rows import OpenRows
from orchestrator.rows import write_rows
from orchestrator.spill import SpillFile

_BATCH_ROWS = 1_000


def replay_left_rows(
    database: Database, settings: Settings, run: RunRecord, notify: Callable[[str], None]
) -> None:
    """Write the rows a run left, unless a process of this host works on it and does so itself.

    What hinders it is told to ``notify``: whoever only wants to read shall not fail by it.
    """
    folder = settings.runs_dir / run.uid
    file = SpillFile(folder / "rows.jsonl")
    if file.is_empty():
        return
    try:
        with FileLock(folder / "lock", timeout=0):
            replay_spill(database, run.id, file.path)
    except Timeout:
        return
    except (MetafleetError, OSError) as error:
        notify(f"rows of run {run.id} wait in {file.path}: {error}")


def replay_spill(database: Database, run_id: int, spill_path: Path) -> int:
    """Write rows that a run left in its spill file; for a run nobody works on.

    Returns:
        how many rows were in the file.

    Raises:
        FencedError: somebody took the run over meanwhile.
        DatabaseError: the database is away or refuses; the file stays.
    """
    rows = OpenRows(SpillFile(spill_path))
    if rows.are_none():
        return 0
    with database.session(read_only=True) as session:
        epoch = RunRepository(session).get(run_id).epoch
    return rows.replay(
        lambda items: write_rows(database, run_id, items, epoch=epoch, own_from=epoch),
        batch_rows=_BATCH_ROWS,
    )
