"""Writes checkpoints in the background during training."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from metafleet.db.records import CheckpointRecord
from metafleet.errors import MetafleetError
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    StoredCheckpoint,
)

log = logging.getLogger(__name__)


class CheckpointWriter:
    """A thread that stores one checkpoint at a time.

    The thread first flushes the recorder's rows, then writes the checkpoint's file, and then
    records the checkpoint's row. Checkpoints are immutable, so the thread needs no copy. An error
    in the thread is raised by the next call of a method. As a context manager, the writer waits on
    exit until the last file is complete.

    Args:
        folder: the folder in which checkpoints are stored.
        recorder: the run's recorder. Because it is flushed first, all steps up to the checkpoint
            are recorded.
    """

    def __init__(self, folder: CheckpointFolder, recorder: Recorder) -> None:
        self._folder, self._recorder = folder, recorder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[StoredCheckpoint] | None = None

    def check(self) -> None:
        """If storing the last checkpoint has already failed, raise the error.

        Raises:
            CheckpointError: the disk is full or not writable. Earlier checkpoints are not changed.
            FencedError: another orchestrator has taken over the run.
            DatabaseError: rows can be written neither to the database nor to the spill file.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    def store(self, checkpoint: Checkpoint) -> None:
        """Wait for the previous checkpoint, then start to store this one; raise as ``check``."""
        self.wait()
        self._running = self._thread.submit(self._store, checkpoint)

    def wait(self) -> StoredCheckpoint | None:
        """Wait for the last checkpoint and return it; raise as ``check``."""
        return self._running.result() if self._running is not None else None

    def _store(self, checkpoint: Checkpoint) -> StoredCheckpoint:
        self._recorder.flush()
        stored = self._folder.write(checkpoint)
        self._recorder.record_checkpoint(
            CheckpointRecord(
                step=checkpoint.progress.step,
                path=str(stored.path),
                sha256=stored.sha256,
                size_bytes=stored.n_bytes,
            )
        )
        return stored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        try:
            self.wait()
        except MetafleetError as failure:
            if error is None:
                raise
            if failure is not error:
                log.warning("%s", failure)  # the first error matters more
