"""Sends runs to TensorBoard: one folder of event files for each run."""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from metafleet.tracking.mark_file import read_mark, write_mark
from metafleet.tracking.missing import missing
from metafleet.tracking.records import Mark, Row, TrackedRun

_MARK: Final = "metafleet.json"


class TensorBoardSink:
    """Writes TensorBoard event files of a run.

    Args:
        folder: the log folder that is given to TensorBoard. The files of a run are in its folder
            ``NAME-UID``.
        place: the folder of the run's files, instead of ``folder/NAME-UID``. The sink's mark is
            also there, so that deleting the folder also deletes the mark.

    Raises:
        ConfigError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path | None = None, *, place: Path | None = None) -> None:
        try:
            from tensorboardX import record_writer, summary  # noqa: PLC0415
            from tensorboardX.proto import event_pb2  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise missing("TensorBoard", "tensorboard", error) from error
        # not its SummaryWriter: that writes on a thread, which swallows the error of a full disk
        self._records: Any = record_writer
        self._summary: Any = summary
        self._event: Any = event_pb2
        self._folder, self._place = folder or Path(), place
        self._writer: Any = None
        self._uid = ""

    def open(self, run: TrackedRun) -> Mark:
        """Open an event file; the first one of a run has its configuration."""
        self._uid = run.uid
        self._place = place = self._place or self._folder / run.label
        remedy = f"delete the folder {place}, and export the run again"
        found = read_mark(place / _MARK, run.uid, remedy=remedy)
        mark = found or Mark()
        place.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = self._records.RecordWriter(str(place / name))
        self._add(0, file_version="brain.Event:2")
        if found is None:
            rows = (f"| {key} | {_cell(value)} |" for key, value in run.params.items())
            table = "\n".join(("| key | value |", "|---|---|", *rows))
            self._add(0, summary=self._summary.text("configuration", table))
        else:  # what a crash left without a mark is sent again: the earlier copy does not count
            log = self._event.SessionLog(status=self._event.SessionLog.START)
            self._add(mark.step + 1, session_log=log)
        return mark

    def send(self, rows: Sequence[Row], mark: Mark) -> None:
        """Write scalars, flush them, and then write the mark."""
        assert self._place is not None
        for row in rows:
            self._add_scalars(row.metrics, row.step, at=row.at)
        self._writer.flush()
        write_mark(self._place / _MARK, self._uid, mark)

    def end(self, run: TrackedRun) -> None:
        """Write the status as a text."""
        self._add(run.steps_done, summary=self._summary.text("status", run.status_text))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _add_scalars(self, values: Mapping[str, float], step: int, *, at: datetime) -> None:
        for name, value in values.items():
            self._add(step, at=at, summary=self._summary.scalar(name, value))

    def _add(self, step: int, *, at: datetime | None = None, **content: Any) -> None:
        wall_time = time.time() if at is None else at.timestamp()
        event = self._event.Event(wall_time=wall_time, step=step, **content)
        self._writer.write(event.SerializeToString())


def _cell(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|")
