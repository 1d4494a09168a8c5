"""Rows not yet in the database, oldest first: a batch, the spill file, a buffer."""

import logging
from collections import deque
from collections.abc import Callable, Iterable

from metafleet.errors import DatabaseError
from metafleet.orchestrator.recording.rows import EpochRow, LostRun
from metafleet.orchestrator.recording.spill import SpillFile

logger = logging.getLogger(__name__)


class OpenRows:
    """Queue of the rows that are not in the database yet.

    Only ``replay`` is thread-safe. A caller of another method must hold the recorder's lock.

    Args:
        file: the spill file.
        lost_run: returns the run's own row. This row is written to the file first, so that the run
            can be restored from the file alone.

    Attributes:
        batch: the rows that are being written now. They are older than all other rows in memory.
        file: the spill file, for rows that do not fit in memory or must survive a crash.
        refusal: the error of the last write to the file; None if it succeeded.
        n_added: rows added so far.
    """

    def __init__(self, file: SpillFile, lost_run: Callable[[], EpochRow] | None = None) -> None:
        self.file, self._lost_run = file, lost_run
        self.batch: list[EpochRow] = []
        self.refusal: OSError | None = None
        self._batch_is_spilled = False
        self._buffer: deque[EpochRow] = deque()
        self.n_added = 0

    def require_room(self, run_id: int, database_url: str) -> None:
        """Raise DatabaseError if there are rows that even the file refused."""
        if self.n_in_memory and self.refusal is not None:
            raise DatabaseError(
                f"{self.n_in_memory} rows of run {run_id} can be written neither to the database "
                f"{database_url} nor to {self.file.path} ({self.refusal.strerror}); make room, or "
                "repair the database"
            ) from self.refusal

    @property
    def n_left(self) -> int:
        """Number of rows that have left memory, for the database or the file."""
        return self.n_added - self.n_in_memory

    @property
    def n_in_memory(self) -> int:
        """Number of rows that a crash of this process would lose."""
        return len(self._buffer) + (0 if self._batch_is_spilled else len(self.batch))

    @property
    def n_buffered(self) -> int:
        """Number of rows that are not yet in a batch."""
        return len(self._buffer)

    def is_empty(self) -> bool:
        """Return whether all rows are in the database."""
        return not self.n_in_memory and self.file.is_empty()

    def add(self, items: Iterable[EpochRow]) -> None:
        """Add the newest rows."""
        before = len(self._buffer)
        self._buffer.extend(items)
        self.n_added += len(self._buffer) - before

    def begin_batch(self, n_rows: int) -> None:
        """Take up to ``n_rows`` of the oldest rows from the buffer as the next batch."""
        n_rows = min(n_rows, len(self._buffer))
        self.batch = [self._buffer.popleft() for _ in range(n_rows)]

    def end_batch(self) -> None:
        """Clear the batch, which is now in the database."""
        self.batch, self._batch_is_spilled = [], False

    def drop_spilled_batch(self) -> None:
        """Clear an unwritten batch if it is in the file."""
        if self._batch_is_spilled:
            self.end_batch()

    def spill(self) -> None:
        """Move all rows in memory to the file; if that fails, keep them in memory."""
        batch = [] if self._batch_is_spilled else self.batch
        is_first = self._lost_run is not None and self.file.is_empty()
        head = [self._lost_run()] if is_first and self._lost_run else []
        try:
            self.file.append([*head, *batch, *self._buffer])
        except OSError as error:
            if self.refusal is None:
                logger.warning("spill file %s: %s", self.file.path, error)
            self.refusal = error
            return
        self.refusal = None
        self._batch_is_spilled = bool(self.batch)
        self._buffer.clear()

    def replay(self, write: Callable[[list[EpochRow]], None], *, batch_rows: int) -> int:
        """Pass the file's rows to ``write`` in batches, then delete them; return their number."""
        if self.file.is_empty():
            return 0
        n_rows = 0
        with self.file.replaying(batch_rows) as batches:
            for batch in batches:
                items = [item for item in batch if not isinstance(item.row, LostRun)]
                write(items)
                n_rows += len(items)
        return n_rows
