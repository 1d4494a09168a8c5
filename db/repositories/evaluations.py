"""Evaluations: validations and tests."""

from metafleet.db.records import EVALUATIONS, EvaluationRecord
from metafleet.db.repositories.run_rows import RunRows


class EvaluationRepository(RunRows[EvaluationRecord]):
    """Evaluations of runs."""

    table, record, keeps = EVALUATIONS, EvaluationRecord, ("created_at",)

    def list(
        self, run_id: int, *, split: str | None = None, label: str | None = None
    ) -> tuple[EvaluationRecord, ...]:
        """Return evaluations in the order of step, split and label."""
        columns = self.table.c
        order = (columns.step, columns.split, columns.label, columns.episodes)
        query = self._select(run_id).order_by(*order)
        if split is not None:
            query = query.where(columns.split == split)
        if label is not None:
            query = query.where(columns.label == label)
        return self._read(query)
