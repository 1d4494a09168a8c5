"""Results of evaluations after each inner step."""

from metafleet.db.records import INNER_CURVES, InnerCurveRecord
from metafleet.db.repositories.run_rows import RunRows


class InnerCurveRepository(RunRows[InnerCurveRecord]):
    """Inner curves of runs."""

    table, record = INNER_CURVES, InnerCurveRecord

    def list(
        self, run_id: int, *, split: str | None = None, label: str | None = None
    ) -> tuple[InnerCurveRecord, ...]:
        """Return a run's inner curves, in order of steps and episodes."""
        columns = self.table.c
        query = self._select(run_id).order_by(columns.step, columns.episodes, columns.label)
        if split is not None:
            query = query.where(columns.split == split)
        if label is not None:
            query = query.where(columns.label == label)
        return self._read(query)
