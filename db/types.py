"""Column types that store values identically on SQLite and PostgreSQL."""

import math
import sys
import zlib
from array import array
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Double, LargeBinary, String, Text
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC. SQLite drops the time zone, so reading adds it again."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a time of any zone to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value.isoformat()} has no zone; pass datetime.now(UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Real(TypeDecorator[float]):
    """A float64 that may be NaN. SQLite turns NaN into NULL, so NULL stands for NaN everywhere."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """Store NaN as NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """Read NULL as NaN."""
        return math.nan if value is None else value


class Seed(TypeDecorator[int]):
    """An integer in [0, 2**64), stored as decimal text: both databases stop at 2**63."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Return the decimal digits."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """Parse the decimal digits."""
        return None if value is None else int(value)


class Line(TypeDecorator[str]):
    """A column for text from a worker or a machine. Long text is cut, and NULs are removed.

    PostgreSQL refuses NULs. Use this type only for descriptions. Text from people may be a key, and
    cutting a key could merge two rows. Therefore, text from people is not cut; its length is
    checked beforehand.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Drop NULs and cut the text to its length."""
        if value is None:
            return None
        return str(value).replace("\0", "")[: self.length]


class LongText(TypeDecorator[str]):
    """Text of any length without NULs, which PostgreSQL refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:
        """Drop NULs."""
        return None if value is None else str(value).replace("\0", "")


class Indices(TypeDecorator[tuple[Any, ...]]):
    """A tuple of small integers or of texts, stored as a JSON list."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> list[Any] | None:
        """Convert it to a list."""
        return None if value is None else list(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> tuple[Any, ...] | None:
        """Convert it to a tuple."""
        return None if value is None else tuple(value)


class Reals(TypeDecorator[tuple[float, ...]]):
    """A tuple of float64, stored without loss: little-endian bytes, compressed by zlib."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Iterable[float] | None, dialect: Dialect) -> bytes | None:
        """Pack the numbers."""
        return None if value is None else zlib.compress(_little_endian(value).tobytes())

    def process_result_value(
        self, value: bytes | None, dialect: Dialect
    ) -> tuple[float, ...] | None:
        """Unpack the numbers."""
        if value is None:
            return None
        numbers = array("d", zlib.decompress(value))
        return tuple(_little_endian(numbers))


class CompressedText(TypeDecorator[str]):
    """Text of any length, stored as UTF-8 that zlib has compressed."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Compress the text."""
        if value is None:
            return None
        return zlib.compress(value.encode(errors="backslashreplace"))

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Decompress the text."""
        return None if value is None else zlib.decompress(value).decode()


def _little_endian(values: Iterable[float]) -> "array[float]":
    """Return numbers in the byte order of the stored form, or back in that of this machine."""
    numbers = array("d", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
