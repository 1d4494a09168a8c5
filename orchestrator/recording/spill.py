"""The file that holds rows while the database is away: JSON lines, appended, replayed once."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout

from metafleet.db.records import RunRecord
from metafleet.orchestrator.recording.rows import LOST_RUN, EpochRow, LostRun, from_line, to_line

logger = logging.getLogger(__name__)


class SpillFile:
    """A file of one run's rows that are not in the database yet, oldest first.

    Several processes can use the same file. While its rows are written to the database (a replay),
    the file has another name, so that rows can still be appended under the usual name.

    Args:
        path: the file. Each run has its own. The file's folder is created when the first rows are
            appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replayed = path.with_name(path.name + ".replay")

    def is_empty(self) -> bool:
        """Return whether no rows are waiting."""
        return not (self.path.exists() or self._replayed.exists())

    def find_run(self) -> RunRecord | None:
        """Return the last stored record of the rows' run; None if no row has it."""
        found = None
        for path in (self._replayed, self.path):
            with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    item = from_line(line) if LOST_RUN in line else None
                    if item is not None and isinstance(item.row, LostRun):
                        found = item.row.run
        return found

    def append(self, items: Iterable[EpochRow]) -> None:
        """Append rows and wait until they are on disk.

        Raises:
            OSError: the rows could not be written. If part of a line was written, readers ignore
                it.
        """
        data = "".join(to_line(item) for item in items).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock("append"), self.path.open("ab+", buffering=0) as file:
            if _ends_torn(file.fileno()):
                data = b"\n" + data
            start = file.seek(0, os.SEEK_END)
            try:
                _write_all(file, data)
            except OSError:
                # the rows stay in memory and are appended later; avoid duplicates
                os.ftruncate(file.fileno(), start)
                raise

    @contextmanager
    def replaying(self, batch_rows: int) -> Iterator[Iterator[list[EpochRow]]]:
        """Yield the file's rows in batches. If the block ends without an error, delete the rows.

        If another process is replaying the file, yield no rows.
        """
        try:
            with self._lock("replay", timeout_s=1.0):
                self._set_aside()
                yield self._batches(batch_rows)
                self._replayed.unlink(missing_ok=True)
        except Timeout:
            yield iter(())

    def _set_aside(self) -> None:
        if self._replayed.exists():  # an unfinished replay: its rows are older
            return
        with self._lock("append"):
            if self.path.exists():
                self.path.rename(self._replayed)

    def _batches(self, batch_rows: int) -> Iterator[list[EpochRow]]:
        if not self._replayed.exists():
            return
        with self._replayed.open(encoding="utf-8", errors="replace") as lines:
            while chunk := list(islice(lines, batch_rows)):
                items = [from_line(line) for line in chunk]
                torn = sum(
                    item is None and line != "\n" for item, line in zip(items, chunk, strict=True)
                )
                if torn:
                    logger.warning("%s: %d torn lines ignored", self.path, torn)
                yield [item for item in items if item is not None]

    def _lock(self, what: str, *, timeout_s: float = 10.0) -> FileLock:
        return FileLock(self.path.with_name(f"{self.path.name}.{what}.lock"), timeout=timeout_s)


def _write_all(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a disk that fills up accepts the first part without an error
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
