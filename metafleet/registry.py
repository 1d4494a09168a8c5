"""Lookup of classes by name, built in or from the user's packages, and of their options."""

import dataclasses
import importlib
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from metafleet.errors import ConfigError, DataError, MetafleetError
from metafleet.options import name_of, parse_options
from metafleet.sources import STALE, disk_digest, imported_digest, note_import, package_of


class HasOptions(Protocol):
    """A class that declares its options."""

    Options: ClassVar[type]


_HERE: Final = Path(__file__).resolve().parent
_PYTHON: Final = Path(dataclasses.__file__).resolve().parent
ClassT = TypeVar("ClassT", bound=type[HasOptions])


class Registry(Mapping[str, ClassT], Generic[ClassT]):
    """The built-in classes of one kind, by name.

    Args:
        kind: "learner" or "model", for messages.
        built_in: the classes, each with its ``name``.
        adapt: a function that converts an object of a user's package to a class of this kind.
    """

    def __init__(
        self,
        kind: str,
        built_in: Iterable[ClassT],
        *,
        adapt: Callable[[Any], Any] = lambda found: found,
    ) -> None:
        self._kind, self._adapt = kind, adapt
        self._built_in = {name_of(found): found for found in built_in}

    def __getitem__(self, name: str) -> ClassT:
        return self._built_in[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._built_in)

    def __len__(self) -> int:
        return len(self._built_in)

    def resolve(
        self, options: Mapping[str, Any], *, allowed_packages: Sequence[str] = ()
    ) -> tuple[ClassT, Any]:
        """Return the class that ``options["name"]`` selects, and its checked options.

        Args:
            options: "name", which is a built-in name or "package.module:Class", and the class's own
                options.
            allowed_packages: packages of the user that may be imported.

        Raises:
            ConfigError: the name or an option is unknown, of the wrong type, or out of range.
        """
        found = self.find(options.get("name"), allowed_packages=allowed_packages)
        return found, self.parse(found, options)

    def find(self, name: object, *, allowed_packages: Sequence[str] = ()) -> ClassT:
        """Return the class called ``name``, a built-in name or "package.module:Class".

        Raises:
            ConfigError: the name is unknown.
        """
        return find_class(
            name,
            self._built_in,
            kind=self._kind,
            allowed_packages=allowed_packages,
            adapt=self._adapt,
        )

    def parse(self, found: ClassT, options: Mapping[str, Any]) -> Any:
        """Check and parse the options of a class. ``options`` includes "name".

        Raises:
            ConfigError: an option is unknown, of the wrong type, or out of range.
        """
        return parse_options(found.Options, options, where=f"{self._kind} {options['name']!r}")


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
        adapt: a function that converts an object of a user's package to such a class.

    Raises:
        ConfigError: the name is unknown, or its package is not allowed, cannot be imported, or
            does not hold such a class.
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
    imported = import_class(name, kind=kind, allowed_packages=allowed_packages)
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


def import_class(name: str, *, kind: str, allowed_packages: Sequence[str]) -> Any:
    """Import the class "package.module:Class" from a package of the user.

    Raises:
        ConfigError: the package is not allowed, cannot be imported, or has no such name.
    """
    module_name, _, class_name = name.partition(":")
    package = package_of(name)
    if package not in allowed_packages:
        allowed = ", ".join(map(repr, allowed_packages)) or "none"
        enough = [*allowed_packages, package]
        raise ConfigError(
            f"{kind} {name!r} is in package {package!r}, which may not be imported here "
            f"(allowed: {allowed}); from Python give allowed_packages={enough}, for commands and "
            f"workers set METAFLEET_ALLOWED_PACKAGES={','.join(enough)}"
        )
    note_import(package)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        is_lacking = isinstance(error, ImportError | ValueError)
        advice = "install it where orchestrator and workers run" if is_lacking else "correct it"
        raise ConfigError(
            f"{kind} {name!r}: module {module_name!r} cannot be imported ({_told(error)}); "
            + _advice(package, advice)
        ) from error
    try:
        found: Any = getattr(module, class_name)
    except AttributeError as error:
        raise ConfigError(
            f"{kind} {name!r}: module {module_name!r} has no {class_name!r}; "
            + _advice(package, "check the spelling")
        ) from error
    return found


@contextmanager
def readable_errors(what: str) -> Iterator[None]:
    """Convert an exception of a user's class to a one-line error.

    Args:
        what: start of the message, which names the class and the call.

    Raises:
        DataError: the class raised anything other than Metafleet's own errors.
    """
    try:
        yield
    except MetafleetError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise DataError(f"{what} ({_told(error)}); correct the class") from error


def _told(error: Exception) -> str:
    """Return type, reason and place of an error of the user's code, in one line."""
    reason, place = str(error), _line_of_user(error)
    if isinstance(error, SyntaxError) and error.filename and os.path.isfile(error.filename):
        reason, place = error.msg, f", {Path(error.filename).name}:{error.lineno}"
    reason = next(iter(reason.strip().splitlines()), "")[:200]
    return f"{type(error).__name__}: {reason}{place}"


def _line_of_user(error: BaseException) -> str:
    """Return the innermost line of the user's code in a traceback, such as ", tasks.py:12".

    The user's code is all code in one folder: that of the first file that Metafleet has called.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [it for it in frames if not _is_of_others(it.filename)]
    if not theirs:
        return ""
    folder = Path(theirs[0].filename).parent
    last = [it for it in theirs if folder in Path(it.filename).parents][-1]
    return f", {Path(last.filename).name}:{last.lineno}"


def _advice(package: str, otherwise: str) -> str:
    """Return advice for a package that lacks something: restart if it changed since the import."""
    if disk_digest(package) != imported_digest(package):
        return f"package {package!r} {STALE}"
    return otherwise


def _is_of_others(filename: str) -> bool:
    """Return whether a file belongs to Metafleet or to Python itself, or is no file."""
    path = Path(filename).resolve()
    is_ours = _HERE in path.parents
    if is_ours or filename.startswith("<"):  # Python's import system is "<frozen ...>"
        return True
    return _PYTHON in path.parents and "site-packages" not in path.parts
