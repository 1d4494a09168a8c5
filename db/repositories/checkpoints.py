"""Checkpoints: the files from which a run can continue."""

from metafleet.db.records import CHECKPOINTS, CheckpointRecord
from metafleet.db.repositories.run_rows import RunRows


class CheckpointRepository(RunRows[CheckpointRecord]):
    """Checkpoints of runs."""

    table, record, keeps = CHECKPOINTS, CheckpointRecord, ("created_at",)

    def list(self, run_id: int) -> tuple[CheckpointRecord, ...]:
        """Return checkpoints, newest first."""
        return self._read(self._select(run_id).order_by(self.table.c.step.desc()))

    def find_last(self, run_id: int) -> CheckpointRecord | None:
        """Return the newest checkpoint, or None before the first."""
        return next(iter(self.list(run_id)), None)
