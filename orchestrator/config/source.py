"""Merges a TOML file and ``--set`` overrides into one nested mapping, without checking it."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from metafleet.errors import ConfigError
from metafleet.orchestrator.config.bounded import MAX_DEPTH, parse_toml, read_bounded
from metafleet.orchestrator.config.problems import type_name

Tree = dict[str, Any]
Overrides = Sequence[str] | Mapping[str, Any]
"""Assignments as for ``--set``, such as "outer.lr=0.01", or dotted key -> value."""
_VALUE = "it"
_PLACES = ("path", "imported")
"""Two alternative options for the place of the data; overriding one replaces the other."""


def read_toml(path: Path) -> Tree:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable, unreasonably large, not UTF-8 or not TOML.
            If it is not TOML, the message names the line.
    """
    try:
        raw = read_bounded(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; {_nearby(path)}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{_short(path)} cannot be read ({why}); expected a TOML file") from error
    try:
        return parse_toml(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path} line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _short(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() and len(text) <= 300 else f"{text!r:.300}"


def _nearby(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.glob("*.toml"))
    except OSError:
        names = []
    near = difflib.get_close_matches(path.stem, [name.removesuffix(".toml") for name in names], n=1)
    if near:
        return f"did you mean {path.with_name(near[0])}.toml?"
    return "expected a TOML file such as experiments/demo.toml"


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Split ``a.b=value`` into the path of the key and the value; see ``parse_value``.

    Raises:
        ConfigError: the text has no ``=``, or no key before the ``=``.
    """
    key, equals, value = text.partition("=")
    path = _path_of(key)
    if not equals or not all(path):
        raise ConfigError(
            f"--set {text!r:.200} assigns nothing; expected key=value, like outer.lr=0.01"
        )
    try:
        return path, parse_value(value.strip())
    except ConfigError as error:
        raise ConfigError(f"--set {key.strip():.60}: {error}") from error


def parse_value(text: str) -> Any:
    """Parse a TOML value. A text that is not a TOML value becomes a string, so quotes are optional.

    Raises:
        ConfigError: values are nested too deeply, or a whole number needs more than 64 bits.
    """
    try:
        parsed = parse_toml(f"{_VALUE} = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed[_VALUE] if parsed.keys() == {_VALUE} else text


def _path_of(key: str) -> tuple[str, ...]:
    path = tuple(part.strip() for part in key.split("."))
    if len(path) > MAX_DEPTH:
        raise ConfigError(
            f"--set {key!r:.40}...: a key of {len(path)} parts; expected {MAX_DEPTH} at most"
        )
    return path


def _assignments(overrides: Overrides) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(overrides, Mapping):
        return [parse_override(text) for text in overrides]
    return [(_path_of(key), value) for key, value in overrides.items()]


def apply_overrides(tree: Tree, overrides: Overrides) -> tuple[Tree, frozenset[str]]:
    """Apply overrides to a copy of ``tree``; return the copy and the dotted keys of the overrides.

    An override of ``data.path`` replaces the file's ``data.imported``, and vice versa.

    Raises:
        ConfigError: an override is not an assignment, or assigns a key within a value that is not a
            table.
    """
    keys = set()
    for path, value in _assignments(overrides):
        tree = _with_value(tree, path, value)
        keys.add(".".join(path))
    return _with_one_place(tree, keys), frozenset(keys)


def _with_one_place(tree: Tree, keys: Set[str]) -> Tree:
    """Drop the file's place of the data if an override sets the other one."""
    data = tree.get("data")
    given = [name for name in _PLACES if f"data.{name}" in keys]
    if not isinstance(data, dict) or len(given) != 1 or not data[given[0]]:
        return tree
    kept = {key: value for key, value in data.items() if key not in _PLACES or key in given}
    return {**tree, "data": kept}


def _with_value(tree: Tree, path: tuple[str, ...], value: Any, above: str = "") -> Tree:
    first, rest = path[0], path[1:]
    if not rest:
        return {**tree, first: value}
    inner = tree.get(first, {})
    if not isinstance(inner, dict):
        key = f"{above}{first}"
        raise ConfigError(
            f"--set: {key}.{'.'.join(rest)} cannot be set: {key} is {type_name(inner)}, not a table"
        )
    return {**tree, first: _with_value(inner, rest, value, f"{above}{first}.")}
