"""All rows of one run, for what has to be kept elsewhere."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from metafleet.db.attempt_records import AttemptCountRecord, AttemptRecord
from metafleet.db.models import Base
from metafleet.db.records import CheckpointRecord, EvaluationRecord, JobRecord, OuterStepRecord
from metafleet.db.rowmap import select_fields, to_record

_AT_ONCE = 1_000
_RECORDS: tuple[tuple[str, type[Any]], ...] = (
    ("outer_steps", OuterStepRecord),
    ("jobs", JobRecord),
    ("attempts", AttemptRecord),
    ("attempt_counts", AttemptCountRecord),
    ("evaluations", EvaluationRecord),
    ("checkpoints", CheckpointRecord),
)


def read_rows(session: Session, run_id: int) -> Iterator[Any]:
    """Hand out the records of a run's rows, table by table, in memory a thousand at a time."""
    for name, record in _RECORDS:
        table = Base.metadata.tables[name]
        query = select_fields(table, record).where(table.c.run_id == run_id)
        for row in session.execute(query.execution_options(yield_per=_AT_ONCE)):
            yield to_record(record, row)
