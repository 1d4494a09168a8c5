"""Types of rows, their form as JSON lines, and the writing of a batch to the database."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from metafleet.db.engine import Database
from metafleet.db.records import (
    AttemptCountRecord,
    AttemptLogRecord,
    AttemptRecord,
    CheckpointRecord,
    EpisodeResultsRecord,
    EvaluationRecord,
    InnerCurveRecord,
    InnerRatesRecord,
    JobRecord,
    OuterStepRecord,
    RunRecord,
    RunStatus,
)
from metafleet.db.repositories import (
    RUN_ROWS,
    RunRepository,
)

LINE_VERSION = 1
LOST_RUN = '"kind": "run"'
"""Substring of the lines that hold the run itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """The run's new status and its reason."""

    status: RunStatus
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRun:
    """The run itself, to restore it in a database that has lost it; otherwise not written."""

    run: RunRecord


Row = (
    OuterStepRecord
    | JobRecord
    | AttemptRecord
    | AttemptCountRecord
    | AttemptLogRecord
    | EvaluationRecord
    | EpisodeResultsRecord
    | InnerCurveRecord
    | InnerRatesRecord
    | CheckpointRecord
    | StatusChange
    | LostRun
)

_TYPES: dict[str, type[Any]] = {
    "outer_step": OuterStepRecord,
    "job": JobRecord,
    "attempt": AttemptRecord,
    "attempt_count": AttemptCountRecord,
    "attempt_log": AttemptLogRecord,
    "evaluation": EvaluationRecord,
    "episodes": EpisodeResultsRecord,
    "inner_curve": InnerCurveRecord,
    "inner_rates": InnerRatesRecord,
    "checkpoint": CheckpointRecord,
    "status": StatusChange,
    "run": LostRun,
}
_TUPLES = {"missing_shards", "losses", "accuracies", "layers", "rates"} | {
    f.name
    for f in dataclasses.fields(InnerCurveRecord)
    if f.name.startswith(("support_", "query_"))
}
"""Fields that are tuples; JSON has only lists."""
_KINDS = {row_type: kind for kind, row_type in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A row and the fencing epoch in which it was recorded."""

    epoch: int
    row: Row


def to_line(item: EpochRow) -> str:
    """Return a row as one line of JSON, line feed included."""
    fields = dataclasses.asdict(item.row)
    document = {"v": LINE_VERSION, "epoch": item.epoch, "kind": _KINDS[type(item.row)]}
    return json.dumps({**document, "row": fields}, default=_plain) + "\n"


def from_line(line: str) -> EpochRow | None:
    """Parse a line; return None if a crash truncated it or it is of another version."""
    try:
        document = json.loads(line)
        if document["v"] != LINE_VERSION:
            return None
        fields = document["row"]
        if "created_at" in fields:
            fields["created_at"] = datetime.fromisoformat(fields["created_at"])
        for name in _TUPLES & fields.keys():
            fields[name] = None if fields[name] is None else tuple(fields[name])
        if "run" in fields:
            fields["run"] = _to_run(fields["run"])
        if "status" in fields:
            fields["status"] = RunStatus(fields["status"])
        return EpochRow(int(document["epoch"]), _TYPES[document["kind"]](**fields))
    except (ValueError, KeyError, TypeError):
        return None


def write_rows(
    database: Database,
    run: RunRecord,
    items: Sequence[EpochRow],
    *,
    epoch: int,
    own_from: int,
    lost_run: Callable[[], RunRecord | None] = lambda: None,
) -> None:
    """Write rows in one transaction, provided that the run still has ``epoch``.

    Writing the same rows again changes nothing. Rows of epochs before ``own_from`` were recorded
    when the run had another owner. If the database already has a row in the place of such a row,
    the row in the database is kept. Rows of an earlier owner also do not change the run's status or
    progress.

    Args:
        database: an open database.
        run: the run.
        items: the rows.
        epoch: the writer's current epoch.
        own_from: the writer's first epoch.
        lost_run: a function. If another file has replaced the database file that had the run, it
            returns the run, which is then restored. Otherwise it returns None. It is called within
            the transaction, because only then it is certain which file is in use.

    Raises:
        FencedError: the run has another epoch. Nothing was written.
        RunNotFoundError: there is no such run.
        DatabaseError: the database is unavailable or rejects the rows. Nothing was written.
    """
    with database.session() as session:
        runs = RunRepository(session)
        if lost := lost_run():
            runs.put_back(lost)
        runs.hold(run.id, epoch=epoch, uid=run.uid)
        for written_in, group in groupby(items, key=attrgetter("epoch")):
            is_own = written_in >= own_from
            rows = [item.row for item in group]
            for repository in RUN_ROWS:
                chosen = [row for row in rows if type(row) is repository.record]
                repository(session).upsert_many(run.id, chosen, overwrite=is_own)
            if is_own:
                _write_progress(session, run.id, rows)


def _write_progress(session: Connection, run_id: int, rows: Iterable[Row]) -> None:
    steps_done: int | None = None
    sha256: str | None = None
    change: StatusChange | None = None
    for row in rows:
        if isinstance(row, OuterStepRecord):
            steps_done = row.step
        elif isinstance(row, CheckpointRecord):
            sha256 = row.sha256
        elif isinstance(row, StatusChange):
            change = row
    runs = RunRepository(session)
    runs.set_progress(run_id, steps_done=steps_done, checkpoint_sha256=sha256)
    if change is not None:
        runs.mark_status(run_id, change.status, error=change.error)


def _to_run(fields: dict[str, Any]) -> RunRecord:
    times = ("created_at", "started_at", "finished_at")
    read = {name: datetime.fromisoformat(fields[name]) for name in times if fields[name]}
    return RunRecord(**{**fields, **read, "status": RunStatus(fields["status"])})


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
