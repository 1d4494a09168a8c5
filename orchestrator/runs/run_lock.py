"""A file lock that admits one process of a host to a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from filelock import FileLock, Timeout

from metafleet.contracts.settings import Settings, make_folder
from metafleet.db.records import RunRecord
from metafleet.errors import RunLeasedError

log = logging.getLogger(__name__)

_FENCED_ENDS_WITHIN_S: Final = 5.0


@contextmanager
def run_lock(settings: Settings, run: RunRecord, *, is_granted: bool) -> Iterator[None]:
    """Hold the lock of a run, a file in the run's folder, during the block.

    Args:
        settings: location of the folder.
        run: the run.
        is_granted: whether the database made this process the owner. If so, another process that
            still holds the lock will soon end. This process then waits a few seconds for the lock.
            If it does not get the lock in this time, it continues without the lock.

    Raises:
        RunLeasedError: another process of this host executes the run.
    """
    folder = settings.runs_dir / run.uid
    make_folder(folder, "the run's folder")
    lock = FileLock(folder / "lock", timeout=_FENCED_ENDS_WITHIN_S if is_granted else 0.0)
    try:
        lock.acquire()
    except Timeout as error:
        if not is_granted:
            raise RunLeasedError(
                f"run {run.id} is being run by another process of this host; stop that one first, "
                "or wait for its end"
            ) from error
        # it may be frozen; it is fenced out, and could only write the same bytes
        log.warning("run=%d an owner that was fenced out holds its lock", run.id)
    try:
        yield
    finally:
        lock.release()
