"""Options: frozen dataclasses filled from plain JSON values, with every mistake named.

Each learner and model states its options as a standard dataclass; other layers may read the fields
and types from it (``dataclasses.fields``, ``typing.get_type_hints``) to check a configuration. Its
``__post_init__`` refuses values out of range. One derived from other options calls theirs by name
first: ``super()`` knows the class only as it was before ``slots=True`` made another.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from metafleet.errors import ConfigError, MetafleetError

OptionsT = TypeVar("OptionsT")
_MOST = 2**64 - 1
TABLES = "tables"
"""Metadata of a field that is a table of tables: their names. Each is an option of its own."""
MOST_LAYERS = 80
"""Layers or blocks of one network; the initial values of an encoder have streams for no more."""
MOST_STEPS = 10**6
"""Steps within one episode: with second derivatives each is kept in memory."""


def name_of(found: type) -> str:
    """Return what configurations call a class: its own ``name``.

    Of a class without one, such as a user's, it is that of the class: a name that it inherits is
    another's.
    """
    own = vars(found).get("name")
    return own if isinstance(own, str) else found.__name__


def parse_options(cls: type[OptionsT], values: Mapping[str, Any], *, where: str) -> OptionsT:
    """Fill ``cls`` from JSON values; lists become tuples and whole numbers floats where asked.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, Literal, tuple[T, ...], None, or
            Mapping[str, ...] of texts, numbers and truth values, of anything (Any), or of tables
            (Mapping); or one of these or None, or a Literal or a tuple; or anything (Any); or
            such a dataclass itself.
        values: option -> value; "name" is skipped where ``cls`` has no such field: it chose it.
        where: who the options belong to, for messages, such as "learner 'maml'".

    Raises:
        ConfigError: an option is unknown, missing, or of another type or range.
    """
    hints = option_hints(cls)
    fields = _fields(cls)
    given = {name: v for name, v in values.items() if name != "name" or "name" in fields}
    for name in given:
        if name not in hints:
            known = ", ".join(sorted(hints)) or "none"
            raise ConfigError(f"{where} has no option {name!r}; its options are: {known}")
    for name, field in fields.items():
        if name not in given and _is_required(field):
            raise ConfigError(f"{where} needs the option {name!r}; add it")
    try:
        checked = {n: _convert(n, v, hints[n]) for n, v in given.items() if hints[n] is not Any}
        return cls(**_with_tables(fields, given | checked))
    except ValueError as error:  # ConfigError is one; classes of the user's raise others
        raise ConfigError(f"{where}: {error}") from error


def option_hints(cls: type[Any]) -> dict[str, Any]:
    """Return option -> type, as ``parse_options`` takes them."""
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for name, field in _fields(cls).items():
        if TABLES in field.metadata:
            found |= dict.fromkeys(field.metadata[TABLES], typing.get_args(hints[name])[1])
        else:
            found[name] = hints[name]
    return found


def option_values(options: Any) -> dict[str, Any]:
    """Return option -> value, as ``parse_options`` takes them; a table not given is empty."""
    found: dict[str, Any] = {}
    for name, field in _fields(type(options)).items():
        value = getattr(options, name)
        if TABLES in field.metadata:
            found |= {table: value.get(table, {}) for table in field.metadata[TABLES]}
        else:
            found[name] = value
    return found


def parse_record(
    cls: type[OptionsT], values: object, *, where: str, error: type[MetafleetError]
) -> OptionsT:
    """Fill ``cls`` as ``parse_options`` does, from what a file or a message says.

    Raises:
        MetafleetError: the values are no table, or not those of a ``cls``; of class ``error``.
    """
    try:
        return _parse_table(cls, where, values)
    except ConfigError as problem:
        raise error(str(problem)) from problem


def can_convert(hint: Any) -> bool:
    """Return whether ``parse_options`` can hold a value against a field of this type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [arg for arg in args if arg is not type(None)]
        lists = [arg for arg in inner if typing.get_origin(arg) is tuple]
        return max(len(lists), len(inner) - len(lists)) == 1 and all(map(can_convert, inner))
    if origin is tuple:
        return len(args) == 2 and args[1] is Ellipsis and can_convert(args[0])
    return origin is typing.Literal or hint in (bool, int, float, str)


def require(holds: bool, option: str, value: object, expected: str) -> None:
    """Refuse an option out of range.

    Raises:
        ConfigError: ``holds`` is false; names the option, its value and what was expected.
    """
    if not holds:
        raise ConfigError(f"{option}={value!r}; expected {expected}")


def require_layers(option: str, n_layers: int) -> None:
    """Refuse no layers, and more than anybody means, which would take long to make and compute.

    Raises:
        ConfigError: names the option.
    """
    require(n_layers >= 1, option, n_layers, "1 or more")
    require(n_layers <= MOST_LAYERS, option, n_layers, f"{MOST_LAYERS} or fewer")


def require_steps(option: str, n_steps: int, *, least: int = 1) -> None:
    """Refuse too few steps within an episode, and more than any machine computes.

    Raises:
        ConfigError: names the option.
    """
    require(n_steps >= least, option, n_steps, f"{least} or more")
    require(n_steps <= MOST_STEPS, option, n_steps, f"{MOST_STEPS} or fewer")


def is_finite_number(value: object) -> bool:
    """Tell whether a value is a number that a float can hold; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # unlike math.isfinite, this takes whole numbers too large for a float
    return abs(value) <= sys.float_info.max


def _fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls)}


def _with_tables(
    fields: Mapping[str, dataclasses.Field[Any]], values: dict[str, Any]
) -> dict[str, Any]:
    """Move the tables that are options of their own into their field."""
    for name, field in fields.items():
        if TABLES in field.metadata:
            tables = [table for table in field.metadata[TABLES] if table in values]
            values[name] = {table: values.pop(table) for table in tables}
    return values


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _parse_table(cls: type[OptionsT], where: str, values: object) -> OptionsT:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r:.60}; expected a table")
    return parse_options(cls, values, where=where)


def _convert(name: str, value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(name, value, typing.get_args(hint))
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        require(value in choices, name, value, f"one of {', '.join(map(repr, choices))}")
        return value
    if origin is tuple:
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        require(is_list, name, value, "a list")
        return tuple(_convert(name, item, typing.get_args(hint)[0]) for item in value)
    if origin is Mapping or dataclasses.is_dataclass(hint):
        return _convert_table(name, value, hint)
    if hint is float:
        require(is_finite_number(value), name, value, "a finite number")
        return float(value)
    if isinstance(value, int) and abs(value) > _MOST:
        raise ConfigError(f"{name} is beyond 64 bits; expected {_ARTICLES[int]} that fits")
    is_right = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    require(is_right, name, value, _ARTICLES.get(hint, f"a {hint.__name__}"))
    return value


def _convert_table(name: str, value: Any, table: Any) -> Any:
    if dataclasses.is_dataclass(table):
        cls = typing.cast(type[Any], table)
        return value if isinstance(value, cls) else _parse_table(cls, name, value)
    hint = typing.get_args(table)[1]
    if typing.get_origin(hint) is Mapping or dataclasses.is_dataclass(hint):
        require(isinstance(value, Mapping), name, value, "a table of tables")
        return {key: _convert(f"{name}.{key}", item, hint) for key, item in value.items()}
    if hint is Any:
        require(isinstance(value, Mapping), name, value, "a table")
        return dict(value)
    is_table = isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(item, str | int | float | bool)
        for key, item in value.items()
    )
    require(is_table, name, value, "a table of texts, numbers and truth values")
    return dict(value)


def _convert_union(name: str, value: Any, hints: Sequence[Any]) -> Any:
    """Convert to the one hint that is not None, or of several to the tuple if it is a list."""
    if value is None and type(None) in hints:
        return None
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    rest = [hint for hint in hints if hint is not type(None)]
    fitting = [hint for hint in rest if (typing.get_origin(hint) is tuple) == is_list]
    return _convert(name, value, (fitting or rest)[0])


_ARTICLES = {int: "a whole number", bool: "true or false", str: "a text"}
