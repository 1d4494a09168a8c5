"""Sends runs to TensorBoard: one folder of event files for each run."""

import json
import os
import socket
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from metafleet.db.records import EvaluationRecord, OuterStepRecord, RunRecord
from metafleet.errors import ConfigError
from metafleet.files import drafting
from metafleet.orchestrator.records.difference import flat
from metafleet.orchestrator.tracking.sink import Mark

_MARK: Final = "metafleet.json"
_TRAINED: Final = "trained"


class TensorBoardSink:
    """Writes TensorBoard event files of a run into the folder ``folder/NAME-UID``.

    Args:
        folder: the log folder that is given to TensorBoard. The sink's mark is a file in
            ``folder/NAME-UID``, so that deleting that folder also deletes the mark.

    Raises:
        ConfigError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import record_writer, summary  # noqa: PLC0415
            from tensorboardX.proto import event_pb2  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise ConfigError(
                f"TensorBoard needs tensorboardX ({error}); pip install 'metafleet[tensorboard]'"
            ) from error
        # not its SummaryWriter: that writes on a thread, which swallows the error of a full disk
        self._records: Any = record_writer
        self._summary: Any = summary
        self._event: Any = event_pb2
        self._folder, self._place = folder, folder
        self._writer: Any = None

    def open(self, run: RunRecord) -> Mark:
        """Open an event file; the first one of a run has its configuration."""
        self._place = self._folder / f"{run.name}-{run.uid}"
        found = self._read_mark()
        mark = found or Mark()
        self._place.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = self._records.RecordWriter(str(self._place / name))
        self._add(0, file_version="brain.Event:2")
        if found is None:
            rows = (f"| {key} | {_cell(value)} |" for key, value in flat(run.config).items())
            table = "\n".join(("| key | value |", "|---|---|", *rows))
            self._add(0, summary=self._summary.text("configuration", table))
        else:  # what a crash left without a mark is sent again: the earlier copy does not count
            log = self._event.SessionLog(status=self._event.SessionLog.START)
            self._add(mark.step + 1, session_log=log)
        return mark

    def send(
        self,
        steps: Sequence[OuterStepRecord],
        evaluations: Sequence[EvaluationRecord],
        mark: Mark,
    ) -> None:
        """Write scalars, flush them, and then write the mark."""
        for step in steps:
            values = {"loss": step.loss, "score": step.accuracy, "grad_norm": step.grad_norm}
            values |= {"lr": step.lr, "step_s": step.step_s, "workers": step.workers_alive}
            self._add_scalars("meta_train", values, step.step)
        for one in evaluations:
            label = "" if one.label == _TRAINED else f"/{one.label}"
            values = {"loss": one.loss, "score": one.accuracy}
            self._add_scalars(f"{one.split}{label}", values, one.step, at=one.created_at)
        self._writer.flush()
        document = {"step": mark.step, "evaluations": sorted(mark.evaluations)}
        with drafting(self._place / _MARK, survives=False) as draft:
            draft.write_text(json.dumps(document))

    def end(self, run: RunRecord) -> None:
        """Write the status as a text."""
        text = run.status.value + (f": {run.error}" if run.error else "")
        self._add(run.steps_done, summary=self._summary.text("status", text))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _add_scalars(
        self, prefix: str, values: dict[str, Any], step: int, *, at: datetime | None = None
    ) -> None:
        for name, value in values.items():
            if value is not None:
                scalar = self._summary.scalar(f"{prefix}/{name}", value)
                self._add(step, at=at, summary=scalar)

    def _add(self, step: int, *, at: datetime | None = None, **content: Any) -> None:
        wall_time = time.time() if at is None else at.timestamp()
        event = self._event.Event(wall_time=wall_time, step=step, **content)
        self._writer.write(event.SerializeToString())

    def _read_mark(self) -> Mark | None:
        try:
            found = json.loads((self._place / _MARK).read_text())
            return Mark(int(found["step"]), frozenset(found["evaluations"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._place / _MARK} is damaged; delete the folder {self._place}, and export "
                "the run again"
            ) from error


def _cell(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|")
