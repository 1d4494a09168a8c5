"""How much a recorder keeps waiting, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """How much may wait, and for how long.

    Attributes:
        max_rows: rows in memory before they go to the spill file.
        batch_rows: rows in one transaction.
        linger_s: how long a first row waits for company; what ``kill -9`` may cost.
        first_retry_s, last_retry_s: pauses between attempts while the database is away; doubled
            from the first to the last.
    """

    max_rows: int = 10_000
    batch_rows: int = 1_000
    linger_s: float = 0.25
    first_retry_s: float = 0.2
    last_retry_s: float = 5.0
