"""Describes the problems of a configuration, one line each."""

import datetime
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from metafleet.errors import ConfigError
from metafleet.orchestrator.config.section import MOST, MOST_AT_ONCE, MOST_WEIGHT

_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    (list, "an array"),
    (dict, "a table"),
    (datetime.date, "a date"),
    (datetime.time, "a time"),
)
_NUMBERS = {"integer": "an integer", "number": "a number"}
_LIMITS = (MOST, MOST_AT_ONCE, MOST_WEIGHT)
_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}


@dataclass(frozen=True, slots=True)
class Blame:
    """Records which input each key came from: the file, or an override on the command line.

    All instances compare equal. So two configurations with the same values are equal, wherever
    their keys came from.
    """

    origin: str = field(compare=False)
    overridden: frozenset[str] = field(default=frozenset(), compare=False)

    def source(self, key: str) -> str:
        """Return the input that set ``key``, or a key above or below it."""
        overridden = any(
            f"{k}.".startswith(f"{key}.") or key.startswith(f"{k}.") for k in self.overridden
        )
        return "--set" if overridden else self.origin

    def source_of(self, sections: Mapping[str, Mapping[str, Any]], problem: str) -> str:
        """Return the name of the input that caused a problem: "--set" or the file's name.

        The text of the problem is searched for names of options. If an override set one of the
        options that were found, or the ``name`` of its section, the answer is "--set".

        Args:
            sections: name of a section -> options of the section, for the sections that may have
                caused the problem, e.g. "model" and "learner".
            problem: one line, e.g. "learner 'maml': inner_lr=-1.0; expected more than 0".
        """
        said = problem.partition(";")[0]
        meant = {name: tree for name, tree in sections.items() if said.startswith(name)} or sections
        named = [
            key
            for section, tree in meant.items()
            for key, last in _keys(tree, section)
            if last != "name"
            and re.search(rf"(?:^|: |'){re.escape(last)}\b|\b{re.escape(last)}=", said)
        ]
        takers = [f"{section}.name" for section in meant]
        sources = {self.source(key) for key in (*named, *takers)}
        return self.origin if sources == {self.origin} else "--set"

    def line(self, key: str, text: str) -> str:
        """Format one problem: the input, the key, what is wrong and what was expected."""
        return f"{self.source(key)}: {key}{text}"


def _keys(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    """Yield every dotted key of a tree, with its last part."""
    for name, value in tree.items():
        yield f"{above}.{name}", name
        if isinstance(value, Mapping):
            yield from _keys(value, f"{above}.{name}")


def raise_problems(lines: Sequence[str]) -> None:
    """Raise one ConfigError with all lines, if there are any."""
    if lines:
        raise ConfigError("\n".join(lines))


def describe(error: ValidationError, model: type[BaseModel], blame: Blame) -> list[str]:
    """Convert pydantic's errors to lines, in order of key."""
    return [_describe_one(details, model, blame) for details in error.errors(include_url=False)]


def suggest(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or list all."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(names)}"


def type_name(value: object) -> str:
    """Return the type of a TOML value, with its article."""
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "no TOML value")


def shown(value: object) -> str:
    """Format a value, shortened to fit on one line."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _describe_one(details: ErrorDetails, model: type[BaseModel], blame: Blame) -> str:
    path = tuple(str(part) for part in details["loc"])
    key = ".".join(path)
    if details["type"] == "value_error":
        return blame.line(key, f"{': ' if key else ''}{details['ctx']['error']}")
    if details["type"] == "extra_forbidden":
        siblings = _properties(model, path[:-1])
        return blame.line(key, f" is not a known key; {suggest(path[-1], siblings)}")
    is_too_large = details["type"] == "less_than_equal"
    expected = _expectation(_property(model, path), with_limits=is_too_large)
    if details["type"] == "missing":
        return blame.line(key, f" is missing; expected {expected}")
    value = details["input"]
    kind = "" if _is_in_range_type(details) else f" is {type_name(value)}"
    return blame.line(key, f"={shown(value)}{kind}; expected {expected}")


def _is_in_range_type(details: ErrorDetails) -> bool:
    return not details["type"].endswith("_type")


def _property(model: type[BaseModel], path: Sequence[str]) -> Mapping[str, Any]:
    return _properties(model, path[:-1]).get(path[-1], {})


def _properties(model: type[BaseModel], path: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    schema = model.model_json_schema()
    node: Mapping[str, Any] = schema
    for part in path:
        node = _resolve(node.get("properties", {}).get(part, {}), schema)
    properties: Mapping[str, Any] = node.get("properties", {})
    return {name: _resolve(value, schema) for name, value in properties.items()}


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "expected" in node:
        return node
    concrete: list[Mapping[str, Any]] = [
        option for option in node.get("anyOf", ()) if option.get("type") != "null"
    ]
    if concrete:
        node = concrete[0]
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        node = schema["$defs"][name]
    return node


def _expectation(node: Mapping[str, Any], *, with_limits: bool) -> str:
    """Describe the values of a key; mention the huge limits only if ``with_limits``."""
    if "expected" in node:
        return str(node["expected"])
    if "const" in node:
        return repr(node["const"])
    if "enum" in node:
        return f"one of: {', '.join(node['enum'])}"
    kind = node.get("type")
    if kind in _NUMBERS:
        bounds = [
            f"{sign} {node[name]}"
            for name, sign in _BOUNDS.items()
            if name in node and (with_limits or node[name] not in _LIMITS)
        ]
        return f"{_NUMBERS[kind]} {' and '.join(bounds)}".rstrip()
    return {"boolean": "true or false", "object": "a table", "string": "a string"}.get(
        str(kind), "another value"
    )
