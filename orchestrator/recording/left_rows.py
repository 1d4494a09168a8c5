"""Replays rows from the spill file of a run whose process ended or whose database was away."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories import RunRepository
from metafleet.errors import MetafleetError
from metafleet.orchestrator.recording.open_rows import OpenRows
from metafleet.orchestrator.recording.rows import write_rows
from metafleet.orchestrator.recording.spill import SpillFile

_BATCH_ROWS = 1_000
_NAME = "rows.jsonl"


def spill_path(settings: Settings, uid: str) -> Path:
    """Return the path of a run's spill file."""
    return settings.runs_dir / uid / _NAME


def find_left_rows(settings: Settings) -> list[str]:
    """Return the uids of the runs that have rows in spill files."""
    files = settings.runs_dir.glob(f"*/{_NAME}*")
    uids = sorted({path.parent.name for path in files})
    return [uid for uid in uids if not SpillFile(spill_path(settings, uid)).is_empty()]


def put_back_lost_runs(
    database: Database, settings: Settings, notify: Callable[[str], None]
) -> None:
    """Restore runs that the database has lost. Their rows come from their spill files.

    For each run, ``notify`` receives a message about success or failure.
    """
    for uid in find_left_rows(settings):
        with database.session(read_only=True) as session:
            if RunRepository(session).find(uid) is not None:
                continue
        lost = SpillFile(spill_path(settings, uid)).find_run()
        if lost is not None and lost.uid == uid:
            _put_back(database, settings, lost, notify)


def _put_back(
    database: Database, settings: Settings, lost: RunRecord, notify: Callable[[str], None]
) -> None:
    path = spill_path(settings, lost.uid)
    try:
        with FileLock(path.with_name("lock"), timeout=0):
            with database.session() as session:
                run_id = RunRepository(session).put_back(lost, may_renumber=True)
            n_rows = replay_spill(database, run_id, path)
    except Timeout:
        return  # its own process does this
    except (MetafleetError, OSError) as error:
        notify(f"run {lost.uid} and its rows wait in {path}: {error}")
        return
    was = "" if run_id == lost.id else f", which was {lost.id},"
    notify(
        f"run {run_id} ({lost.uid}){was} was missing from the database; restored it with "
        f"{n_rows} rows from {path}"
    )


def replay_left_rows(
    database: Database, settings: Settings, run: RunRecord, notify: Callable[[str], None]
) -> None:
    """Write the rows in a run's spill file to the database.

    If a process of this host is executing the run, this function does nothing, because that process
    writes the rows. Errors are passed to ``notify`` and not raised, so that a command that only
    reads does not fail.
    """
    path = spill_path(settings, run.uid)
    if SpillFile(path).is_empty():
        return
    try:
        with FileLock(path.with_name("lock"), timeout=0):
            replay_spill(database, run.id, path)
    except Timeout:
        return
    except (MetafleetError, OSError) as error:
        notify(f"rows of run {run.id} wait in {path}: {error}")


def replay_spill(database: Database, run_id: int, spill_path: Path) -> int:
    """Write the rows in the spill file of a run that no process is executing.

    Returns:
        The number of rows in the file.

    Raises:
        FencedError: another process took over the run during this call.
        DatabaseError: the database is unavailable or rejects the rows. The file is not deleted.
    """
    rows = OpenRows(SpillFile(spill_path))
    if rows.is_empty():
        return 0
    with database.session(read_only=True) as session:
        run = RunRepository(session).get(run_id)
    return rows.replay(
        lambda items: write_rows(database, run, items, epoch=run.epoch, own_from=run.epoch),
        batch_rows=_BATCH_ROWS,
    )
