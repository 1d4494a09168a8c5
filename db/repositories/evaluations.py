"""Evaluations: validations and tests."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import ColumnElement, func, or_, select

from metafleet.db.records import EVALUATIONS, DecisiveEvaluation, EvaluationRecord
from metafleet.db.repositories.run_rows import RunRows

TRAINED: Final = "trained"
_MOST_IDS: Final = 1_000
"""Maximum number of ids in a query; databases limit the parameters of a statement."""


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

    def list_decisive(self, run_ids: Collection[int]) -> tuple[DecisiveEvaluation, ...]:
        """Return the best and the last evaluation of each run on each split, by one query.

        Only evaluations of the trained state count, on episodes like the run's own. If a state was
        evaluated several times, the evaluation with the most episodes counts. The last evaluation
        is the one after the latest step. The best one is marked as best; without a mark, it is the
        last.

        Args:
            run_ids: the runs. The evaluations of other runs may be returned as well.
        """
        columns = self.table.c
        latest = (columns.step.desc(), columns.episodes.desc())
        best = (columns.is_best.desc(), *latest)

        def rank(order: tuple[ColumnElement[Any], ...]) -> ColumnElement[int]:
            place = (columns.run_id, columns.split)
            return func.row_number().over(partition_by=place, order_by=order)

        ranked = select(
            *columns, rank(latest).label("from_last"), rank(best).label("from_best")
        ).where(columns.label == TRAINED)
        if len(run_ids) <= _MOST_IDS:
            ranked = ranked.where(columns.run_id.in_(run_ids))
        found = ranked.subquery()
        query = select(found).where(or_(found.c.from_last == 1, found.c.from_best == 1))
        return tuple(_decisive(row) for row in self._session.execute(query))


def _decisive(row: Any) -> DecisiveEvaluation:
    values = dict(row._mapping)
    return DecisiveEvaluation(
        run_id=values.pop("run_id"),
        is_best=values.pop("from_best") == 1,
        is_last=values.pop("from_last") == 1,
        evaluation=EvaluationRecord(**values),
    )
