"""Learned step sizes of inner steps."""

from metafleet.db.records import INNER_RATES, InnerRatesRecord
from metafleet.db.repositories.run_rows import RunRows


class InnerRatesRepository(RunRows[InnerRatesRecord]):
    """Learned inner rates of runs."""

    table, record = INNER_RATES, InnerRatesRecord

    def list(self, run_id: int) -> tuple[InnerRatesRecord, ...]:
        """Return a run's learned rates, in order of outer steps."""
        return self._read(self._select(run_id).order_by(self.table.c.step))
