"""Curves of runs, aggregated by the database: 70,000 steps become a few hundred points."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, func, select

from metafleet.db.records import OUTER_STEPS


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean, the least and the greatest value of some consecutive steps."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some consecutive steps.

    Attributes:
        step: the middle step.
        spreads: column -> its values; a column without any value is left out.
    """

    step: int
    spreads: dict[str, Spread]


class CurveRepository:
    """Aggregated outer steps. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def last_step(self, run_id: int) -> int:
        """Return the last committed step of a run; 0 if there is none."""
        query = select(func.max(OUTER_STEPS.c.step)).where(OUTER_STEPS.c.run_id == run_id)
        return self._session.scalar(query) or 0

    def steps(
        self, run_id: int, columns: Sequence[str], *, within: tuple[int, int], most: int
    ) -> list[Bucket]:
        """Return steps in at most ``most`` buckets of equal width.

        Args:
            run_id: the run.
            columns: names of columns of ``OuterStepRecord`` that are numbers.
            within: the first and the last step.
            most: maximum number of buckets, > 0.
        """
        first, last = within
        width = max(1, -(-(last - first + 1) // most))
        step = OUTER_STEPS.c.step
        bucket = ((step - first) // width).label("bucket")
        figures = [
            of(OUTER_STEPS.c[name]).label(f"{name}_{kind}")
            for name in columns
            for kind, of in (("mean", func.avg), ("low", func.min), ("high", func.max))
        ]
        query = (
            select(bucket, func.min(step).label("first"), func.max(step).label("last"), *figures)
            .where(OUTER_STEPS.c.run_id == run_id, step >= first, step <= last)
            .group_by(bucket)
            .order_by(bucket)
        )
        return [
            Bucket((row["first"] + row["last"]) // 2, _spreads(row, columns))
            for row in self._session.execute(query).mappings()
        ]


def _spreads(row: RowMapping, columns: Sequence[str]) -> dict[str, Spread]:
    found = {}
    for name in columns:
        mean, low, high = (row[f"{name}_{kind}"] for kind in ("mean", "low", "high"))
        if mean is not None:
            found[name] = Spread(float(mean), float(low), float(high))
    return found
