"""Compares a run with the row of the ledger that it repeats."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from metafleet.contracts.fingerprint import differences
from metafleet.orchestrator.ledger.row import LedgerRow, Metric

_OUTER = "outer"
"""Key of the orchestrator's part of a fingerprint, which is a JSON text."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A result of the row, and that of the new run; None if it made no such evaluation."""

    recorded: Metric
    found: Metric | None

    @property
    def is_inside(self) -> bool:
        """Whether the two results differ by at most sqrt(a² + b²).

        Here a and b are half the widths of the 95 % intervals of the two results. Both results are
        means over the same episodes. So if the learned states are equal up to rounding, the results
        are also equal up to rounding.
        """
        if self.found is None:
            return False
        margin = math.hypot(self.recorded.ci95, self.found.ci95)
        return abs(self.recorded.value - self.found.value) <= margin


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of comparing a row with a new run.

    Attributes:
        has_same_bits: whether the final states, including those of the optimiser, have the same
            bits.
        differences: key of the fingerprint -> (recorded value, found value), for the keys whose
            values differ.
        results: for each result of the row, the recorded and the found result.
    """

    has_same_bits: bool
    differences: Mapping[str, tuple[str, str]]
    results: tuple[Repeated, ...]

    @property
    def is_inside(self) -> bool:
        """Whether all results are inside their intervals."""
        return all(result.is_inside for result in self.results)


def judge(recorded: LedgerRow, found: LedgerRow) -> Verdict:
    """Compare a row with that of a new run."""
    by_name = {(metric.name, metric.episodes): metric for metric in found.metrics}
    return Verdict(
        has_same_bits=recorded.checkpoint_sha256 == found.checkpoint_sha256,
        differences=_differences(recorded.fingerprint, found.fingerprint),
        results=tuple(
            Repeated(metric, by_name.get((metric.name, metric.episodes)))
            for metric in recorded.metrics
        ),
    )


def _differences(
    recorded: Mapping[str, str], found: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    inner = [json.dumps({k: v for k, v in one.items() if k != _OUTER}) for one in (recorded, found)]
    outer = differences(recorded.get(_OUTER, ""), found.get(_OUTER, ""))
    return differences(*inner) | {f"outer {key}": values for key, values in outer.items()}
