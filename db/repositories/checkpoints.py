"""Checkpoints: which files a run can go on from."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from metafleet.db.models import Checkpoint
from metafleet.db.records import CheckpointRecord
from metafleet.db.rowmap import select_fields, to_record, to_row
from metafleet.db.upsert import upsert

_TABLE = Checkpoint.metadata.tables["checkpoints"]


class CheckpointRepository:
    """Checkpoints of runs. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def upsert_many(
        self, run_id: int, records: Iterable[CheckpointRecord], *, overwrite: bool = True
    ) -> None:
        """Write checkpoints; one that is there is replaced but keeps its ``created_at``."""
        rows = [to_row(run_id, record) for record in records]
        upsert(self._session, _TABLE, rows, overwrite=overwrite, keep=["created_at"])

    def list(self, run_id: int) -> tuple[CheckpointRecord, ...]:
        """Return checkpoints, newest first."""
        query = (
            select_fields(_TABLE, CheckpointRecord)
            .where(_TABLE.c.run_id == run_id)
            .order_by(_TABLE.c.step.desc())
        )
        return tuple(to_record(CheckpointRecord, row) for row in self._session.execute(query))

    def find_last(self, run_id: int) -> CheckpointRecord | None:
        """Return the newest checkpoint, or None before the first."""
        return next(iter(self.list(run_id)), None)
