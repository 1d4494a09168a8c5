"""The parsed form of a filter. Its logic has three values: true, false and unknown (None)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metafleet.orchestrator.records.literals import Literal, compare

Lookup = Callable[[str], Any]
"""Returns the value of a key; None if the run has none."""


@dataclass(frozen=True, slots=True)
class Has:
    """A key alone: true if the run has a value for it, and that value is not false."""

    key: str

    def holds(self, lookup: Lookup, now: datetime) -> bool | None:
        """Return true or false, never None."""
        value = lookup(self.key)
        return value is not None and value is not False

    def comparisons(self) -> "Iterator[Has | Comparison]":
        """Yield this condition."""
        yield self


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a key's value: unknown if the run has no value."""

    key: str
    sign: str
    literal: Literal

    def holds(self, lookup: Lookup, now: datetime) -> bool | None:
        """Return the result of ``compare``."""
        return compare(lookup(self.key), self.sign, self.literal, now=now)

    def comparisons(self) -> "Iterator[Has | Comparison]":
        """Yield this condition."""
        yield self


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite. The opposite of unknown is unknown."""

    part: "Condition"

    def holds(self, lookup: Lookup, now: datetime) -> bool | None:
        """Return the opposite of the part's result."""
        held = self.part.holds(lookup, now)
        return None if held is None else not held

    def comparisons(self) -> Iterator[Has | Comparison]:
        """Yield the comparisons of the part."""
        return self.part.comparisons()


@dataclass(frozen=True, slots=True)
class Both:
    """All parts: false if one is false, else unknown if one is unknown."""

    parts: "tuple[Condition, ...]"

    def holds(self, lookup: Lookup, now: datetime) -> bool | None:
        """Combine the parts' results."""
        held = [part.holds(lookup, now) for part in self.parts]
        return False if False in held else None if None in held else True

    def comparisons(self) -> Iterator[Has | Comparison]:
        """Yield the comparisons of all parts."""
        return (each for part in self.parts for each in part.comparisons())


@dataclass(frozen=True, slots=True)
class Either:
    """Any part: true if one is true, else unknown if one is unknown."""

    parts: "tuple[Condition, ...]"

    def holds(self, lookup: Lookup, now: datetime) -> bool | None:
        """Combine the parts' results."""
        held = [part.holds(lookup, now) for part in self.parts]
        return True if True in held else None if None in held else False

    def comparisons(self) -> Iterator[Has | Comparison]:
        """Yield the comparisons of all parts."""
        return (each for part in self.parts for each in part.comparisons())


Condition = Has | Comparison | Not | Both | Either
EVERYTHING = Both(())
"""Holds for every run."""
