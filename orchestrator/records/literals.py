"""Compares a value of a run with the text that a filter compares it with."""

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.orchestrator.records.moments import Age, Moments, parse_moments

_NUMBER: Final = re.compile(r"(?P<sign>[+-]?)(\d[\d_]*(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?P<share>%?)")
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ORDERS: Final = tuple(_ORDERS)
OPERATORS: Final = ("=", "!=", *ORDERS, "~")


@dataclass(frozen=True, slots=True)
class Literal:
    """The right side of a comparison. The type of the left side determines how it is read.

    Attributes:
        text: the text as written, without quotes.
        number: the text read as a number; None if the text is not a number. The text 5% means 0.05.
        moments: the text read as a date or an age; None if the text is neither.
    """

    text: str
    number: int | float | None
    moments: Moments | Age | None

    @classmethod
    def parse(cls, text: str) -> "Literal":
        """Read a text in all the ways in which it can be read."""
        return cls(text, parse_number(text), parse_moments(text))


def parse_number(text: str) -> int | float | None:
    """Return a number as people write it, such as 3, 1e-3 or 95%; None for any other text."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    digits = text.removesuffix("%")
    try:
        if digits.lstrip("+-").replace("_", "").isdigit() and not found["share"]:
            return int(digits)
        return float(digits) / 100 if found["share"] else float(digits)
    except ValueError:  # such as "1__0", or more digits than Python converts
        return None


def compare(value: Any, sign: str, literal: Literal, *, now: datetime) -> bool | None:
    """Return whether ``value sign literal`` holds; None if the two sides cannot be compared.

    If ``value`` is missing, return None. A number and a text are unequal, and neither of them is
    less than the other.

    Args:
        value: a JSON value of a run, or a time.
        sign: one of ``OPERATORS``.
        literal: the right side of the comparison.
        now: the time from which ages are counted.
    """
    if value is None:
        return None
    if isinstance(value, list | tuple) and sign not in _ORDERS:
        return _compare_list(value, sign, literal, now)
    if sign == "~":
        return literal.text.casefold() in shown(value).casefold()
    if isinstance(value, datetime):
        return _compare_time(value, sign, literal, now)
    if sign in _ORDERS:
        return _compare_order(value, sign, literal)
    return _is_equal(value, literal) == (sign == "=")


def shown(value: Any) -> str:
    """Return a value as lists of runs show it, and as ``~`` searches it."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _compare_list(values: Any, sign: str, literal: Literal, now: datetime) -> bool:
    """Return whether any item is equal or contains the text; for ``!=``, whether none is equal."""
    if sign == "!=":
        return not any(compare(item, "=", literal, now=now) for item in values)
    return any(compare(item, sign, literal, now=now) for item in values)


def _is_equal(value: Any, literal: Literal) -> bool:
    if isinstance(value, bool):
        return literal.text.casefold() == str(value).casefold()
    if isinstance(value, int | float):
        return literal.number is not None and value == literal.number
    return isinstance(value, str) and value == literal.text


def _compare_order(value: Any, sign: str, literal: Literal) -> bool | None:
    if isinstance(value, str) and literal.number is None:
        return _ORDERS[sign](value, literal.text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and literal.number is not None:
        return _ORDERS[sign](value, literal.number)
    return None


def _compare_time(value: datetime, sign: str, literal: Literal, now: datetime) -> bool:
    found = literal.moments
    if isinstance(found, Age):
        return compare_age(now - value, sign, found)
    if found is None:
        raise ConfigError(f"{literal.text!r:.80} is neither a date nor an age")
    return found.compare(value, sign)


def compare_age(age: Any, sign: str, wanted: Age) -> bool:
    """Return whether an age is less or greater than the wanted one; ages are never equal."""
    return _ORDERS[sign](age, wanted.length) if sign in _ORDERS else sign == "!="
