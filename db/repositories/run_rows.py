"""The common base of the repositories of a run's rows."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import Connection, Select, Table

from metafleet.db.rowmap import read, select_fields, to_record, to_row
from metafleet.db.upsert import upsert

R = TypeVar("R")
_AT_ONCE = 1_000


class RunRows(Generic[R]):
    """Rows of runs. The caller owns the transaction.

    Attributes:
        table, record: the table of the rows and their record type.
        keeps: columns that do not change when a row replaces another.
    """

    table: ClassVar[Table]
    record: ClassVar[type[Any]]
    keeps: ClassVar[tuple[str, ...]] = ()

    def __init__(self, session: Connection) -> None:
        self._session = session

    def upsert_many(
        self,
        run_id: int,
        records: Iterable[R],
        *,
        overwrite: bool = True,
        keep: tuple[str, ...] = (),
    ) -> None:
        """Write rows. If a key exists already, replace its other columns.

        Args:
            run_id: the run's id.
            records: the rows.
            overwrite: whether to replace existing rows; if False, they stay unchanged.
            keep: columns that a replacement does not change, in addition to ``keeps``.
        """
        rows = [{**to_row(record), "run_id": run_id} for record in records]
        upsert(self._session, self.table, rows, overwrite=overwrite, keep=(*self.keeps, *keep))

    def stream(self, run_id: int) -> Iterator[R]:
        """Yield all rows of a run, with at most a thousand in memory at a time."""
        query = self._select(run_id).execution_options(yield_per=_AT_ONCE)
        for row in self._session.execute(query):
            yield to_record(self.record, row)

    def _select(self, run_id: int) -> Select[Any]:
        return select_fields(self.table, self.record).where(self.table.c.run_id == run_id)

    def _read(self, query: Select[Any]) -> tuple[R, ...]:
        return read(self._session, self.record, query)
