"""Evaluations: validations and tests."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from metafleet.db.models import Evaluation
from metafleet.db.records import EvaluationRecord
from metafleet.db.rowmap import select_fields, to_record, to_row
from metafleet.db.upsert import upsert

_TABLE = Evaluation.metadata.tables["evaluations"]


class EvaluationRepository:
    """Evaluations of runs. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def upsert_many(
        self,
        run_id: int,
        records: Iterable[EvaluationRecord],
        *,
        overwrite: bool = True,
        keep_best: bool = False,
    ) -> None:
        """Write evaluations; one that is there is replaced but keeps its ``created_at``.

        Args:
            run_id: of which run.
            records: the evaluations.
            overwrite: False leaves those that are there as they are.
            keep_best: one that is there keeps its ``is_best`` too: training alone knows that.
        """
        rows = [to_row(run_id, record) for record in records]
        keep = ("created_at", "is_best") if keep_best else ("created_at",)
        upsert(self._session, _TABLE, rows, overwrite=overwrite, keep=keep)

    def list(
        self, run_id: int, *, split: str | None = None, label: str | None = None
    ) -> tuple[EvaluationRecord, ...]:
        """Return evaluations in the order of step, split and label."""
        table = _TABLE.c
        query = (
            select_fields(_TABLE, EvaluationRecord)
            .where(table.run_id == run_id)
            .order_by(table.step, table.split, table.label, table.episodes)
        )
        if split is not None:
            query = query.where(table.split == split)
        if label is not None:
            query = query.where(table.label == label)
        return tuple(to_record(EvaluationRecord, row) for row in self._session.execute(query))
