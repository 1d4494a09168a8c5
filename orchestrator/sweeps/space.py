"""The space that a sweep searches: keys of the configuration with their possible values."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.orchestrator.config.source import parse_value

MOST_CHOICES: Final = 1_000
_RANGE: Final = re.compile(r"(?P<log>log:)?(?P<low>[^,:]+?)\.\.(?P<high>[^,:]+)")
_REFUSED: Final = ("data", "episodes", "validation", "test", "seed", "name", "description")
_TRAINING_ONLY: Final = "episodes.meta_train."


@dataclass(frozen=True, slots=True)
class Choices:
    """A key with a list of values."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A key with a range of numbers.

    Attributes:
        low, high: the smallest and the largest value. If both are integers, only integers are
            tried.
        is_log: whether the range is searched on a logarithmic scale. If False, it is searched on a
            linear scale.
    """

    key: str
    low: int | float
    high: int | float
    is_log: bool

    @property
    def is_whole(self) -> bool:
        """Whether all values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Parameter = Choices | Range


def parse_space(texts: Sequence[str]) -> tuple[Parameter, ...]:
    """Parse assignments such as "outer.lr=log:0.001..1" and "model.channels=32,64".

    Raises:
        ConfigError: a text is not such an assignment, a key affects the meta-validation by which
            trials are compared, or two texts have the same key.
    """
    space = tuple(_parse(text) for text in texts)
    keys = [parameter.key for parameter in space]
    for key in keys:
        _check_key(key)
        if keys.count(key) > 1:
            raise ConfigError(f"--over {key} is given twice; expected each key once")
    if not space:
        raise ConfigError("nothing to search; expected --over KEY=VALUES, once or more")
    return space


def grid_size(space: Sequence[Parameter]) -> int:
    """Return how many configurations a grid of choices has.

    Raises:
        ConfigError: a key has a range of numbers instead of a list of choices.
    """
    size = 1
    for parameter in space:
        if isinstance(parameter, Range):
            raise ConfigError(
                f"--sampler grid needs values, but {parameter.key} has a range; write them as "
                f"{parameter.key}=0.01,0.1,1, or choose another sampler"
            )
        size *= len(parameter.values)
    return size


def assignment(key: str, value: Any) -> str:
    """Return an override as ``--set`` has it."""
    return f"{key}={json.dumps(value)}"


def _parse(text: str) -> Parameter:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not key or not equals or not values:
        raise ConfigError(
            f"--over {text!r:.80} has no key or no values; expected KEY=LOW..HIGH, "
            "KEY=log:LOW..HIGH or KEY=A,B,C"
        )
    found = _RANGE.fullmatch(values)
    if found is not None:
        return _range(key, found["low"], found["high"], is_log=found["log"] is not None)
    return Choices(key, _choices(key, values))


def _range(key: str, low_text: str, high_text: str, *, is_log: bool) -> Range:
    low, high = (parse_value(text.strip()) for text in (low_text, high_text))
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise ConfigError(f"--over {key}: {end!r:.40} is no number; expected LOW..HIGH")
    if not low < high:
        raise ConfigError(f"--over {key}={low}..{high} is empty; expected LOW below HIGH")
    if is_log and low <= 0:
        raise ConfigError(f"--over {key}=log:{low}..{high}; expected LOW above 0 with log:")
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(key, low if whole else float(low), high if whole else float(high), is_log)


def _choices(key: str, text: str) -> tuple[Any, ...]:
    listed = parse_value(f"[{text}]")  # "[64, 64], [32]" has commas inside of its values
    values = (
        listed if isinstance(listed, list) else [parse_value(t.strip()) for t in text.split(",")]
    )
    written = [json.dumps(value, default=str) for value in values]
    if len(set(written)) != len(written):
        raise ConfigError(f"--over {key}: a value occurs twice in {text!r:.80}")
    if not 2 <= len(values) <= MOST_CHOICES:
        raise ConfigError(
            f"--over {key} has {len(values)} value; expected 2 to {MOST_CHOICES}, or use --set for "
            "a fixed one"
        )
    return tuple(values)


def _check_key(key: str) -> None:
    if key.partition(".")[0] in _REFUSED and not key.startswith(_TRAINING_ONLY):
        raise ConfigError(
            f"--over {key} would change the meta-validation or the data, so that trials could not "
            "be compared; expected another key, such as outer.lr or episodes.meta_train.n_way"
        )
