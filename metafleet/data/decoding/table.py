"""Rows of numbers: float32 [width]."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array
from metafleet.errors import DecodeError
from metafleet.options import require

MAX_WIDTH = 1 << 16
_MAX_BYTES_EACH = 64


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Options of ``TableDecoder``.

    Attributes:
        width: numbers in a row, 1 to 65536.
    """

    width: int = 1

    def __post_init__(self) -> None:
        require(1 <= self.width <= MAX_WIDTH, "width", self.width, f"1 to {MAX_WIDTH}")


class TableDecoder:
    """Reads one row: numbers separated by commas, or a JSON list of numbers."""

    kind = "table"
    version = 1
    suffixes = frozenset((".csv",))
    Options = TableOptions

    def check(self, options: TableOptions) -> None:
        """Return at once: nothing but numpy is needed."""

    def is_quick(self, options: TableOptions) -> bool:
        """Return True."""
        return True

    def example(self, options: TableOptions) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return float32 [width]."""
        return np.dtype(np.float32), (options.width,)

    def decode(self, source: bytes, options: TableOptions) -> Array:
        """Read the row."""
        limit = options.width * _MAX_BYTES_EACH + 2
        if len(source) > limit:
            raise DecodeError(f"the row has {len(source)} bytes; expected at most {limit}")
        values = _numbers(source)
        if len(values) != options.width:
            raise DecodeError(f"the row has {len(values)} numbers; expected {options.width}")
        with np.errstate(over="ignore"):
            row = np.array(values, np.float64).astype(np.float32)
        if not np.isfinite(row).all():
            column = int(np.flatnonzero(~np.isfinite(row))[0])
            raise DecodeError(
                f"column {column} of the row is {values[column]!r}; expected a finite float32"
            )
        return row


def _numbers(source: bytes) -> list[float]:
    try:
        text = source.decode("utf-8-sig").strip()
        cells = json.loads(text) if text.startswith("[") else text.split(",")
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the row is no list of numbers: {error}") from error
    return [_number(cell, column) for column, cell in enumerate(cells)]


def _number(cell: object, column: int) -> float:
    if isinstance(cell, str | int | float) and not isinstance(cell, bool):
        try:
            return float(cell)
        except (ValueError, OverflowError):
            pass
    raise DecodeError(f"column {column} of the row is {str(cell)[:40]!r}; expected a number")
