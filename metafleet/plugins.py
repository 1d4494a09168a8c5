"""Find a learner's or model's class: built in by name, or from a package of the user."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from metafleet.errors import ConfigError
from metafleet.sources import note_import

ClassT = TypeVar("ClassT")


def find_class(
    name: object,
    built_in: Mapping[str, ClassT],
    *,
    kind: str,
    allowed_packages: Sequence[str] = (),
    adapt: Callable[[Any], Any] = lambda found: found,
) -> ClassT:
    """Return the class called ``name``.

    Args:
        name: a built-in name, or "package.module:Class" from a package of the user.
        built_in: name -> class.
        kind: "learner" or "model", for messages.
        allowed_packages: top-level packages whose code may be imported.
        adapt: makes such a class of what a package of the user holds.

    Raises:
        ConfigError: no such name, or its package is not allowed, cannot be imported, or does not
            hold such a class.
    """
    known = ", ".join(map(repr, sorted(built_in)))
    if not isinstance(name, str):
        raise ConfigError(f"{kind} name={name!r}; expected one of {known}")
    if name in built_in:
        return built_in[name]
    if ":" not in name:
        raise ConfigError(
            f"unknown {kind} {name!r}; expected one of {known}, "
            "or 'package.module:Class' for your own"
        )
    imported = _import_class(name, kind=kind, allowed_packages=allowed_packages)
    found: ClassT = adapt(imported)
    if not dataclasses.is_dataclass(getattr(found, "Options", None)) or not callable(
        getattr(found, "build", None)
    ):
        module = "; a model may be a plain torch.nn.Module as well" if kind == "model" else ""
        raise ConfigError(
            f"{kind} {name!r} has no dataclass 'Options' with a classmethod 'build'; "
            f"see {kind.capitalize()}Class in metafleet/{kind}s/base.py{module}"
        )
    return found


def _import_class(name: str, *, kind: str, allowed_packages: Sequence[str]) -> Any:
    module_name, _, class_name = name.partition(":")
    package = module_name.partition(".")[0]
    if package not in allowed_packages:
        allowed = ", ".join(map(repr, allowed_packages)) or "none"
        raise ConfigError(
            f"{kind} {name!r} is in package {package!r}, which may not be imported here "
            f"(allowed: {allowed}); set METAFLEET_ALLOWED_PACKAGES={package} for the "
            "orchestrator and its workers"
        )
    note_import(package)
    try:
        found: Any = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{kind} {name!r}: module {module_name!r} cannot be imported ({error}); "
            "install it where orchestrator and workers run"
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f"{kind} {name!r}: module {module_name!r} has no {class_name!r}; check the spelling"
        ) from error
    return found
