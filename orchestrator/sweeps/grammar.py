"""Parses the space of a sweep, such as "outer.lr=log:0.001..1" and "model.channels=32,64"."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.orchestrator.config.source import parse_value
from metafleet.orchestrator.sweeps.space import Choices, Condition, Parameter, Range

MOST_CHOICES: Final = 1_000
_RANGE: Final = re.compile(r"(?P<log>log:)?(?P<low>[^,:]+?)\.\.(?P<high>[^,:]+)")
_REFUSED: Final = ("data", "episodes", "validation", "test", "seed", "name", "description", "sweep")
_TRAINING_ONLY: Final = "episodes.meta_train."
_IF: Final = " if "
_LARGEST: Final = 2**63 - 1


def parse_space(texts: Sequence[str]) -> tuple[Parameter, ...]:
    """Parse assignments, each with an optional condition: "KEY=VALUES if KEY=VALUES".

    Raises:
        ConfigError: a text is not such an assignment, a key affects the meta-validation by which
            trials are compared, two texts have the same key, or a condition cannot be fulfilled.
    """
    space: list[Parameter] = []
    for text in texts:
        parameter = _parse(text)
        _check_key(parameter.key)
        if parameter.condition is not None:
            _check_condition(parameter.key, parameter.condition, space)
        for other in space:
            _check_apart(parameter, other)
        space.append(parameter)
    if not space:
        raise ConfigError("nothing to search; expected --over KEY=VALUES, once or more")
    return tuple(space)


def _parse(text: str) -> Parameter:
    assigned, has_condition, condition = text.rpartition(_IF)
    if not has_condition:
        return _parse_assignment(text, least=2)
    parameter = _parse_assignment(assigned, least=1)
    return replace(parameter, condition=_parse_condition(parameter.key, condition))


def _parse_assignment(text: str, *, least: int) -> Parameter:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not key or not equals or not values:
        raise ConfigError(
            f"--over {text!r:.80} has no key or no values; expected KEY=LOW..HIGH, "
            "KEY=log:LOW..HIGH or KEY=A,B,C"
        )
    found = _RANGE.fullmatch(values)
    if found is not None:
        return _range(key, found["low"], found["high"], is_log=found["log"] is not None)
    return Choices(key, _choices(key, values, least=least))


def _parse_condition(key: str, text: str) -> Condition:
    other, equals, values = (part.strip() for part in text.partition("="))
    if not other or not equals or not values:
        raise ConfigError(
            f"--over {key}: the condition {text!r:.80} has no key or no values; expected "
            f"{key}=VALUES if KEY=A,B"
        )
    return Condition(other, _choices(f"{key}: the condition {other}", values, least=1))


def _range(key: str, low_text: str, high_text: str, *, is_log: bool) -> Range:
    low, high = (parse_value(text.strip()) for text in (low_text, high_text))
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise ConfigError(f"--over {key}: {end!r:.40} is no number; expected LOW..HIGH")
        if abs(end) > _LARGEST:
            raise ConfigError(f"--over {key}: {end!r:.40}; expected numbers up to {_LARGEST}")
    if not low < high:
        raise ConfigError(f"--over {key}={low}..{high} is empty; expected LOW below HIGH")
    if is_log and low <= 0:
        raise ConfigError(f"--over {key}=log:{low}..{high}; expected LOW above 0 with log:")
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(key, low if whole else float(low), high if whole else float(high), is_log)


def _choices(key: str, text: str, *, least: int) -> tuple[Any, ...]:
    listed = parse_value(f"[{text}]")  # "[64, 64], [32]" has commas inside of its values
    values = (
        listed if isinstance(listed, list) else [parse_value(t.strip()) for t in text.split(",")]
    )
    try:
        written = [json.dumps(value, allow_nan=False) for value in values]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"--over {key}: {text!r:.80} contains a date or a number that is not finite; expected "
            "numbers, texts, true, false, or lists of these"
        ) from error
    if any(
        "{" in one and not isinstance(value, str)
        for one, value in zip(written, values, strict=True)
    ):
        raise ConfigError(
            f"--over {key}: {text!r:.80} contains a table; sweep over its keys one by one, with "
            f"--over 'KEY=VALUES if {key}.name=NAME' where they differ"
        )
    if len(set(written)) != len(written):
        raise ConfigError(f"--over {key}: a value occurs twice in {text!r:.80}")
    if not least <= len(values) <= MOST_CHOICES:
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


def _check_condition(key: str, condition: Condition, before: Sequence[Parameter]) -> None:
    """Check that the key of a condition is a list before this parameter, and has its values."""
    lists = [one for one in before if isinstance(one, Choices) and one.key == condition.key]
    if not lists:
        raise ConfigError(
            f"--over {key}: no --over before it lists values of {condition.key}; expected "
            f"--over {condition.key}=A,B before --over '{key}=VALUES if {condition}'"
        )
    known = {json.dumps(value) for one in lists for value in one.values}
    for value in condition.values:
        if json.dumps(value) not in known:
            raise ConfigError(
                f"--over {key}: {condition.key}={json.dumps(value):.60} is never tried; expected "
                f"one of {', '.join(sorted(known)):.200}"
            )


def _check_apart(parameter: Parameter, other: Parameter) -> None:
    """Refuse two parameters of one key that a configuration could both have."""
    if parameter.key != other.key:
        return
    one, two = parameter.condition, other.condition
    if one is not None and two is not None and one.key == two.key:
        values = [json.dumps(value) for value in (*one.values, *two.values)]
        if len(set(values)) == len(values):
            return
    raise ConfigError(
        f"--over {parameter.key} is given twice; expected each key once, or conditions that "
        "exclude each other"
    )
