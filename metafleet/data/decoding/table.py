"""Rows of numbers: float32 [width]."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from metafleet.data.decoding.base import Array, Decoder, Readable
from metafleet.data.decoding.drawing import draw_bars
from metafleet.data.decoding.shown import Shown
from metafleet.encoders.choice import EncoderChoice
from metafleet.errors import DecodeError
from metafleet.options import require

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

MAX_WIDTH = 1 << 16
_MAX_BYTES_EACH = 64
_MOST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class TableOptions(EncoderChoice):
    """Options of ``TableDecoder``.

    Attributes:
        width: number of values in a row, 1 to 65536.
    """

    width: int = 1

    def __post_init__(self) -> None:
        self.check_encoder()
        require(1 <= self.width <= MAX_WIDTH, "width", self.width, f"1 to {MAX_WIDTH}")


class TableDecoder(Decoder):
    """Reads one row: numbers separated by commas, or a JSON list of numbers."""

    kind = "table"
    version = 1
    suffixes = frozenset((".csv",))
    Options = TableOptions
    default_encoder = "mlp"
    problem = "a row with more or fewer numbers than the others, or with none"
    joins_columns = True
    is_in_every_recipe = True

    def is_quick(self, options: TableOptions) -> bool:
        """Return True."""
        return True

    def measured(
        self, options: TableOptions, given: Mapping[str, Any], parts: Iterable[Readable]
    ) -> tuple[TableOptions, Mapping[str, Any]]:
        """Set ``width`` to that of the first row that can be read, unless it is given."""
        if "width" in given:
            return options, {}
        for part in parts:
            with contextlib.suppress(DecodeError):  # decoding will report what is wrong
                return replace(options, width=part.read().count(b",") + 1), {}
        return options, {}

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the width."""
        return {"width": shape[0]}

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

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw a bar for each number."""
        return draw_bars(item, self.n_squares)

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return the numbers, or bars if there are too many to read."""
        if len(item) > _MOST_SHOWN:
            return super().show(item, options, fonts)
        return Shown(numbers=tuple(item.astype(float).tolist()))


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
