"""Dates and ages in filters: 2026-11-01, 2026-11-01T12:30, 7d, 12h."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_AGE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(s|min|h|d|w)")
_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DATE: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ](?P<minute>\d\d:\d\d)(?P<second>:\d\d)?)?(Z|[+-]\d\d:\d\d)?"
)
EXPECTED: Final = "a date such as 2026-11-01 or 2026-11-01T12:30, or an age such as 7d or 12h"


@dataclass(frozen=True, slots=True)
class Age:
    """A length of time before now."""

    length: timedelta


@dataclass(frozen=True, slots=True)
class Moments:
    """The day, minute or second that a date names: from ``start``, before ``end``."""

    start: datetime
    end: datetime

    def compare(self, time: datetime, sign: str) -> bool:
        """Return whether a time is before, in or after the day, minute or second."""
        is_before, is_after = time < self.start, time >= self.end
        return {
            "<": is_before,
            "<=": not is_after,
            ">": is_after,
            ">=": not is_before,
            "=": not is_before and not is_after,
            "!=": is_before or is_after,
        }[sign]


def parse_moments(text: str) -> Moments | Age | None:
    """Return the date or the age that a text names; None if it names neither.

    Dates without a zone are in UTC.
    """
    if age := _AGE.fullmatch(text):
        return Age(timedelta(**{_UNITS[age[2]]: float(age[1])}))
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    try:
        start = datetime.fromisoformat(text)
        start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
        return Moments(start, start + _length(found))
    except (ValueError, OverflowError):  # a month 13, or a time after the year 9999
        return None


def _length(found: re.Match[str]) -> timedelta:
    if found["second"]:
        return timedelta(seconds=1)
    return timedelta(minutes=1) if found["minute"] else timedelta(days=1)
