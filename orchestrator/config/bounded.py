"""Reads TOML of limited size: checks length and nesting before parsing, numbers after."""

import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from metafleet.errors import ConfigError

MAX_BYTES: Final = 1 << 20
"""Maximum size of a configuration: a thousand times what it needs."""
MAX_DEPTH: Final = 64
"""Maximum nesting of tables and parts of a dotted key; parsing time is quadratic in parts."""
MAX_INTEGER: Final = 2**64 - 1
"""The largest number that any option accepts: a seed."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY: Final = re.compile(rf"(?:{_PART}[ \t]*\.[ \t]*){{{MAX_DEPTH}}}")


def read_bounded(path: Path) -> bytes:
    """Read a configuration file. A pipe can be read too.

    Raises:
        ConfigError: the file has more than ``MAX_BYTES`` bytes, or is a device without an end.
        OSError, ValueError: the file cannot be read (OSError), or its name is invalid (ValueError).
    """
    with path.open("rb") as handle:
        raw = handle.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        kind = "" if stat.S_ISREG(path.stat().st_mode) else " and is no plain file"
        raise ConfigError(
            f"{path} has more than {MAX_BYTES} bytes{kind}; expected a configuration in TOML"
        )
    return raw


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        tomllib.TOMLDecodeError: the text is not TOML; the message names the line.
        ConfigError: values are nested too deeply, or a whole number needs more than 64 bits.
    """
    found = _LONG_KEY.search(text)
    if found is not None:
        line = text[: found.start()].count("\n") + 1
        raise ConfigError(
            f"line {line} has a key of {MAX_DEPTH} parts or more, {found[0][:30]!r}...; expected "
            "a few"
        )
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise ConfigError("it nests too deep; expected a few tables and lists") from error
    except ValueError as error:  # a number with thousands of digits
        raise ConfigError(f"it holds what is no number here ({error!s:.60})") from error
    _check(tree, "")
    return tree


def require_plain(value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse a value from Python that no TOML file can hold, such as None.

    Raises:
        ConfigError: the value, or a value in it, is not a text, a number, a boolean, a list or a
            table, is nested too deeply, or is a whole number of more than 64 bits.
    """
    if isinstance(value, Mapping | list | tuple) and depth <= MAX_DEPTH:
        items = value.items() if isinstance(value, Mapping) else [("", item) for item in value]
        for name, item in items:
            if not isinstance(name, str):
                raise ConfigError(f"{key or 'configuration'} has the key {name!r:.60}, not a text")
            require_plain(item, ".".join(filter(None, (key, name))), depth + 1)
    elif isinstance(value, str):
        if _SURROGATE.search(value):
            raise ConfigError(f"{key}={value!r:.60} has half a character; expected Unicode text")
    elif isinstance(value, Mapping | list | tuple | int | float):
        _check(value, key, depth)
    else:
        raise ConfigError(
            f"{key}={value!r:.60} is of type {type(value).__name__}; expected a text, a number, "
            "True, False, a list or a dict"
        )


def _check(value: Any, key: str, depth: int = 0) -> None:
    """Refuse whole numbers of more than 64 bits; the message omits their many digits."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{key:.60} nests deeper than {MAX_DEPTH}; expected a few tables")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check(item, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, key, depth + 1)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ConfigError(
            f"{key:.60} is a whole number of {value.bit_length()} bits; expected 64 bits at most"
        )
