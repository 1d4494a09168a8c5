"""Find the data set of a user's class by its name."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from metafleet.data.base import DataSet
from metafleet.data.functions.computed import ComputedData
from metafleet.data.own.items import OwnItems
from metafleet.data.own.tasks import TaskSource
from metafleet.errors import ConfigError
from metafleet.registry import import_class

_EXPECTED: Final = (
    "expected a class with a frozen dataclass 'Options', a text 'version', 'modalities', and "
    "either 'target_dim' and a method 'draw' or methods 'classes' and 'load_items'; "
    "see docs/how-to/own-data.md"
)


def import_data_set(name: str, *, allowed_packages: Sequence[str]) -> DataSet:
    """Return the data set named "package.module:Class".

    Raises:
        ConfigError: the package is not allowed or cannot be imported, or has no such class.
    """
    found = import_class(name, kind="data set", allowed_packages=allowed_packages)
    if reason := _what_is_wrong(found):
        raise ConfigError(f"data set {name!r} {reason}; {_EXPECTED}")
    if _has(found, "load_items"):
        return OwnItems(name, found, allowed_packages)
    return ComputedData(
        name=name,
        title="of your own",
        Options=found.Options,
        draws_version=found.version,
        make_source=lambda options: TaskSource(name, found, options),
        licence="yours",
        origin="yours: computed on the fly",
    )


def _what_is_wrong(found: Any) -> str:
    """Return the reason why a class is not a data set; "" if it is one."""
    if not isinstance(found, type):
        return f"is a {type(found).__name__}"
    options = getattr(found, "Options", None)
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        return "has no dataclass 'Options'"
    if not options.__dataclass_params__.frozen:  # type: ignore[attr-defined] # every dataclass has
        return "has 'Options' that are not frozen"
    version = getattr(found, "version", None)
    if not isinstance(version, str) or not version:
        return f"has version={version!r}"
    draws, loads = _has(found, "draw"), _has(found, "classes") and _has(found, "load_items")
    if draws != loads:
        return ""
    return "has both 'draw' and 'load_items'" if draws else "has no method 'draw' or 'load_items'"


def _has(found: type, method: str) -> bool:
    return callable(getattr(found, method, None))
