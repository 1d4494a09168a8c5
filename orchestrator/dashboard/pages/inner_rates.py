"""The learned step sizes of inner steps, as a table whose cells are coloured: a heat map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metafleet.db.records import InnerRatesRecord

_LEVELS: Final = 10
_MOST_STEPS: Final = 50
"""Maximum number of outer steps to choose from."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A step size, and its level from 0 (the least of the run) to 9 (the greatest)."""

    rate: float
    level: int


@dataclass(frozen=True, slots=True)
class RateMap:
    """The step sizes after one outer step.

    Attributes:
        step: the outer step.
        steps: outer steps to choose from, evenly spaced; the last one is always among them.
        n_inner: number of inner steps.
        rows: parameter -> a cell for each inner step.
    """

    step: int
    steps: tuple[int, ...]
    n_inner: int
    rows: dict[str, tuple[Cell, ...]]


def rate_map(records: Sequence[InnerRatesRecord], wanted: int) -> RateMap | None:
    """Return the map of the last outer step up to ``wanted``; None if no rates are recorded."""
    if not records:
        return None
    chosen = [record for record in records if record.step <= wanted] or [records[0]]
    finite = [rate for record in records for rate in record.rates if math.isfinite(rate)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    by_layer = chosen[-1].by_layer()
    every = -(-len(records) // _MOST_STEPS)
    steps = [record.step for record in reversed(records)][::every]
    return RateMap(
        step=chosen[-1].step,
        steps=tuple(sorted({*steps, chosen[-1].step})),
        n_inner=max(map(len, by_layer.values()), default=0),
        rows={
            layer: tuple(Cell(rate, _level(rate, low, high)) for rate in rates)
            for layer, rates in by_layer.items()
        },
    )


def _level(rate: float, low: float, high: float) -> int:
    if not math.isfinite(rate) or high == low:
        return 0
    return min(int(_LEVELS * (rate - low) / (high - low)), _LEVELS - 1)
