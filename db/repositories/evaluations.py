"""Evaluations: validations and tests."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import and_, case, func, or_, select

from metafleet.db.records import EVALUATIONS, EvaluationRecord, SplitResults
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

    def list_curves(
        self, run_ids: Collection[int], *, split: str
    ) -> dict[int, tuple[EvaluationRecord, ...]]:
        """Return run id -> evaluations of the trained state on a split, in the order of the steps.

        If a state was evaluated several times, all its evaluations are returned, the one with the
        most episodes last.
        """
        columns = self.table.c
        query = select(self.table).order_by(columns.step, columns.episodes)
        query = query.where(columns.label == TRAINED, columns.split == split)
        if len(run_ids) <= _MOST_IDS:
            query = query.where(columns.run_id.in_(run_ids))
        wanted = frozenset(run_ids)
        found: dict[int, list[EvaluationRecord]] = {}
        for row in self._session.execute(query):
            values = dict(row._mapping)
            run_id = values.pop("run_id")
            if run_id in wanted:
                found.setdefault(run_id, []).append(EvaluationRecord(**values))
        return {run_id: tuple(rows) for run_id, rows in found.items()}

    def list_results(self, run_ids: Collection[int]) -> tuple[SplitResults, ...]:
        """Return the best and the last evaluation of each run on each split, by one query.

        Only evaluations of the trained state on episodes like the run's own are considered. The
        last evaluation is the evaluation after the latest step. If evaluations are marked as best,
        the best evaluation is the marked evaluation after the latest step. If no evaluation is
        marked, the best evaluation is the last evaluation. If a state was evaluated several times,
        only one of its evaluations is considered: the one that is marked as best or, if none is
        marked, the one with the most episodes.

        Args:
            run_ids: the runs. The result may contain evaluations of other runs as well.
        """
        columns = self.table.c
        last_step = func.max(columns.step)
        best_step = func.max(case((columns.is_best, columns.step)))
        steps = (
            select(
                columns.run_id,
                columns.split,
                last_step.label("last_step"),
                func.coalesce(best_step, last_step).label("best_step"),
            )
            .where(columns.label == TRAINED)
            .group_by(columns.run_id, columns.split)
        )
        if len(run_ids) <= _MOST_IDS:
            steps = steps.where(columns.run_id.in_(run_ids))
        found = steps.subquery()
        at_step = or_(columns.step == found.c.last_step, columns.step == found.c.best_step)
        same = (columns.run_id == found.c.run_id, columns.split == found.c.split, at_step)
        query = (
            select(self.table, found.c.last_step, found.c.best_step)
            .join(found, and_(*same))
            .where(columns.label == TRAINED)
            .order_by(columns.is_best, columns.episodes)  # later rows replace earlier ones
        )
        best: dict[tuple[int, str], EvaluationRecord] = {}
        last: dict[tuple[int, str], EvaluationRecord] = {}
        for row in self._session.execute(query):
            values = dict(row._mapping)
            at = (values.pop("run_id"), row.split)
            last_step_of_run, best_step_of_run = values.pop("last_step"), values.pop("best_step")
            evaluation = EvaluationRecord(**values)
            if evaluation.step == best_step_of_run:
                best[at] = evaluation
            if evaluation.step == last_step_of_run:
                last[at] = evaluation
        return tuple(SplitResults(*at, best=best[at], last=last[at]) for at in best)
