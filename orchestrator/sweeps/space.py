"""The space that a sweep searches: keys of the configuration with their possible values."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from metafleet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Condition:
    """Another key of the space, and the values of it with which a parameter is used."""

    key: str
    values: tuple[Any, ...]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether a configuration fulfils the condition."""
        return self.key in values and _is_in(values[self.key], self.values)

    def __str__(self) -> str:
        return f"{self.key}={_listed(self.values)}"


@dataclass(frozen=True, slots=True)
class Choices:
    """A key with a list of values.

    Attributes:
        condition: the condition under which the key is used; None for always.
    """

    key: str
    values: tuple[Any, ...]
    condition: Condition | None = None

    def __str__(self) -> str:
        return _with_condition(f"{self.key}={_listed(self.values)}", self.condition)


@dataclass(frozen=True, slots=True)
class Range:
    """A key with a range of numbers.

    Attributes:
        low, high: the smallest and the largest value. If both are integers, only integers are
            tried.
        is_log: whether the range is searched on a logarithmic scale. If False, it is searched on a
            linear scale.
        condition: the condition under which the key is used; None for always.
    """

    key: str
    low: int | float
    high: int | float
    is_log: bool
    condition: Condition | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def middle(self) -> int | float:
        """The value in the middle of the range, on the scale of the range."""
        found = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        return round(found) if self.is_whole else found

    def __str__(self) -> str:
        log = "log:" if self.is_log else ""
        return _with_condition(f"{self.key}={log}{self.low}..{self.high}", self.condition)


Parameter = Choices | Range


def label_of(parameter: Parameter) -> str:
    """Return a name of a parameter that no other parameter of the space has."""
    return _with_condition(parameter.key, parameter.condition)


def is_used(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Return whether a configuration has a parameter, given the values of earlier parameters."""
    return parameter.condition is None or parameter.condition.holds(values)


def is_within(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Return whether the space has a configuration's value of a parameter, or the lack of one."""
    if not is_used(parameter, values):
        return True
    if parameter.key not in values:
        return False
    value = values[parameter.key]
    if isinstance(parameter, Choices):
        return _is_in(value, parameter.values)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = isinstance(value, int) or not parameter.is_whole
    return is_number and fits and parameter.low <= value <= parameter.high


def keys_of_space(space: Sequence[Parameter]) -> tuple[str, ...]:
    """Return the keys that trials change, each once, in the order of the space."""
    return tuple(dict.fromkeys(parameter.key for parameter in space))


def configurations(space: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """Yield each configuration of a space of lists and ranges of integers once, in a fixed order.

    Raises:
        ConfigError: a range contains numbers that are not integers.
    """
    return _grown({}, tuple(space))


def count_configurations(space: Sequence[Parameter], *, limit: int) -> int | None:
    """Return the number of configurations, at most ``limit``; None if there is no limited number.

    The number is unlimited if a range contains numbers that are not integers.
    """
    try:
        return sum(1 for _ in islice(configurations(space), limit))
    except ConfigError:
        return None


def grid_size(space: Sequence[Parameter], *, limit: int) -> int:
    """Return how many configurations a grid of choices has, at most ``limit``.

    Raises:
        ConfigError: a key has a range of numbers instead of a list of choices.
    """
    for parameter in space:
        if isinstance(parameter, Range):
            raise _no_grid(parameter)
    return sum(1 for _ in islice(configurations(space), limit))


def assignment(key: str, value: Any) -> str:
    """Return an override as ``--set`` has it."""
    return f"{key}={json.dumps(value)}"


def _grown(values: dict[str, Any], rest: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    if not rest:
        yield values
        return
    first, others = rest[0], rest[1:]
    if not is_used(first, values):
        yield from _grown(values, others)
        return
    for value in _values_of(first):
        yield from _grown({**values, first.key: value}, others)


def _values_of(parameter: Parameter) -> Sequence[Any]:
    if isinstance(parameter, Choices):
        return parameter.values
    if not parameter.is_whole:
        raise _no_grid(parameter)
    return range(int(parameter.low), int(parameter.high) + 1)


def _no_grid(parameter: Range) -> ConfigError:
    return ConfigError(
        f"--sampler grid needs values, but {parameter.key} has a range; write them as "
        f"{parameter.key}=0.01,0.1,1, or choose another sampler"
    )


def _with_condition(text: str, condition: Condition | None) -> str:
    return text if condition is None else f"{text} if {condition}"


def _listed(values: Sequence[Any]) -> str:
    return ",".join(json.dumps(value) for value in values)


def _is_in(value: Any, values: Sequence[Any]) -> bool:
    return json.dumps(value) in [json.dumps(one) for one in values]
