"""Fill options, which are frozen dataclasses, from plain JSON values and explain every mistake.

Each learner and model declares its options as a standard dataclass. To check a configuration, other
layers may read the fields and types of the dataclass (``dataclasses.fields``,
``typing.get_type_hints``). The dataclass's ``__post_init__`` rejects values out of range. If a
dataclass is derived from a dataclass ``Base``, its ``__post_init__`` must first call
``Base.__post_init__(self)``. ``super()`` does not work, because ``slots=True`` replaces the class
by a new one.
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
"""Metadata key of a field that is a table of tables: their names. Each is a separate option."""
MOST_LAYERS = 80
"""Maximum layers or blocks of a network; an encoder's initial values have no streams for more."""
MOST_STEPS = 10**6
"""Maximum steps within one episode; with second derivatives each is kept in memory."""


def name_of(found: type) -> str:
    """Return the name of a class in configurations: its own ``name``, else the class's name.

    An inherited ``name`` is ignored, because it belongs to the base class.
    """
    own = vars(found).get("name")
    return own if isinstance(own, str) else found.__name__


def parse_options(cls: type[OptionsT], values: Mapping[str, Any], *, where: str) -> OptionsT:
    """Fill ``cls`` from JSON values. Convert lists to tuples and integers to floats as declared.

    Args:
        cls: a dataclass. The type of a field may be bool, int, float, str, Literal, tuple[T, ...],
            None, Any, or another such dataclass. The type may be Mapping[str, T], where T is one of
            three: a union of str, int, float and bool; Any; or a Mapping. The type may also be the
            union of one of these types with None, or the union of a Literal and a tuple.
        values: option -> value. The key "name" selected ``cls``. It is ignored here, unless ``cls``
            has a field of that name.
        where: owner of the options, such as "learner 'maml'", for messages.

    Raises:
        ConfigError: an option is unknown, missing, of the wrong type, or out of range.
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
    except ValueError as error:  # includes ConfigError; users' classes raise others
        raise ConfigError(f"{where}: {error}") from error


def option_hints(cls: type[Any]) -> dict[str, Any]:
    """Return option -> type, in the form that ``parse_options`` accepts."""
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for name, field in _fields(cls).items():
        if TABLES in field.metadata:
            found |= dict.fromkeys(field.metadata[TABLES], typing.get_args(hints[name])[1])
        else:
            found[name] = hints[name]
    return found


def option_values(options: Any) -> dict[str, Any]:
    """Return option -> value, in the form that ``parse_options`` accepts; absent tables are {}."""
    found: dict[str, Any] = {}
    for name, field in _fields(type(options)).items():
        value = getattr(options, name)
        if TABLES in field.metadata:
            found |= {table: value.get(table, {}) for table in field.metadata[TABLES]}
        else:
            is_nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
            found[name] = option_values(value) if is_nested else value
    return found


def parse_record(
    cls: type[OptionsT], values: object, *, where: str, error: type[MetafleetError]
) -> OptionsT:
    """Fill ``cls`` as ``parse_options`` does, from the content of a file or a message.

    Raises:
        MetafleetError: the values are not a table, or they do not fit ``cls``. The class of the
            exception is ``error``.
    """
    try:
        return _parse_table(cls, where, values)
    except ConfigError as problem:
        raise error(str(problem)) from problem


def can_convert(hint: Any) -> bool:
    """Return whether ``parse_options`` can check a value against this type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [arg for arg in args if arg is not type(None)]
        lists = [arg for arg in inner if typing.get_origin(arg) is tuple]
        return max(len(lists), len(inner) - len(lists)) == 1 and all(map(can_convert, inner))
    if origin is tuple:
        return len(args) == 2 and args[1] is Ellipsis and can_convert(args[0])
    return origin is typing.Literal or hint in (bool, int, float, str)


def require(holds: bool, option: str, value: object, expected: str) -> None:
    """Raise an error for an option out of range.

    Raises:
        ConfigError: ``holds`` is false. The message names the option, its value and what was
            expected.
    """
    if not holds:
        raise ConfigError(f"{option}={value!r}; expected {expected}")


def require_layers(option: str, n_layers: int) -> None:
    """Check that a number of layers is at least 1, and small enough to build and run.

    Raises:
        ConfigError: the number is out of range; the message names the option.
    """
    require(n_layers >= 1, option, n_layers, "1 or more")
    require(n_layers <= MOST_LAYERS, option, n_layers, f"{MOST_LAYERS} or fewer")


def require_steps(option: str, n_steps: int, *, least: int = 1) -> None:
    """Check that a number of steps in an episode is at least ``least``, and not too large.

    Raises:
        ConfigError: the number is out of range; the message names the option.
    """
    require(n_steps >= least, option, n_steps, f"{least} or more")
    require(n_steps <= MOST_STEPS, option, n_steps, f"{MOST_STEPS} or fewer")


def is_finite_number(value: object) -> bool:
    """Return whether a value is a number that a float can hold; booleans are not numbers here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # unlike math.isfinite, this accepts integers too large for a float
    return abs(value) <= sys.float_info.max


def _fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls)}


def _with_tables(
    fields: Mapping[str, dataclasses.Field[Any]], values: dict[str, Any]
) -> dict[str, Any]:
    """Move the tables that are separate options into their field."""
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
    if not isinstance(hint, type) or origin is not None:
        raise ConfigError(f"{name} is declared as {_shown(hint)}, which cannot be read; {_TYPES}")
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
    """Convert to the hint that is not None; of several, to the tuple if the value is a list."""
    if value is None and type(None) in hints:
        return None
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    rest = [hint for hint in hints if hint is not type(None)]
    fitting = [hint for hint in rest if (typing.get_origin(hint) is tuple) == is_list]
    return _convert(name, value, (fitting or rest)[0])


def _shown(hint: Any) -> str:
    return str(hint).replace("typing.", "")


_TYPES = (
    "declare it as bool, int, float, str, Literal, tuple[T, ...], Mapping[str, ...], another "
    "frozen dataclass, or one of these or None"
)
_ARTICLES = {int: "a whole number", bool: "true or false", str: "a text"}
