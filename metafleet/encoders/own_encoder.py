"""Encoders that users write, named "package.module:Class". Their errors get one-line messages."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.errors import ConfigError, DataError
from metafleet.registry import import_class, readable_errors
from metafleet.sources import imported_digest, package_of

_NAME: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SOURCES: Final = frozenset(("package", "hf", "timm", "open_clip", "st", "onnx"))
"""Prefixes of encoders that come with Metafleet."""
_EXPECTED: Final = "see PretrainedEncoder in metafleet/encoders/base.py"
_imported: dict[str, type[PretrainedEncoder]] = {}
"""Classes that this process was allowed to import."""


def is_own(name: str) -> bool:
    """Return whether an encoder is a user's class."""
    return _NAME.fullmatch(name) is not None and name.partition(":")[0] not in _SOURCES


def import_encoders(values: Any, *, allowed_packages: Sequence[str]) -> None:
    """Import the users' encoders that options name, so that ``OwnEncoder`` can use them.

    Args:
        values: options as JSON values. The key "encoder" is searched for in all tables.
        allowed_packages: packages that may be imported. If the list is empty, nothing is imported.

    Raises:
        ConfigError: a package is not allowed or cannot be imported, or the package does not have
            the class.
    """
    if not allowed_packages:
        return  # making the ``OwnEncoder`` raises the error
    for name in filter(is_own, _named(values)):
        _import(name, allowed_packages)


class OwnEncoder(PretrainedEncoder):
    """Wraps a user's encoder, and checks all values that the encoder returns.

    Args:
        name: "package.module:Class", which names a subclass of ``PretrainedEncoder``. The class is
            called without arguments, or with ``pooling`` if that is not "".
        pooling: how outputs are pooled to one row; "" selects the encoder's default.
    """

    def __init__(self, name: str, pooling: str = "") -> None:
        found = _imported.get(name) or _import(name, ())
        with readable_errors(f"encoder {name!r} cannot be made"):
            own = found(pooling) if pooling else found()  # type: ignore[call-arg]
        self.name, self._own, self._pooling = name, own, pooling
        reason = _what_is_wrong(own)
        if reason:
            raise ConfigError(f"encoder {name!r} has {reason}; {_EXPECTED}")
        self.kinds, self.batch_items = frozenset(own.kinds), own.batch_items
        self.can_cut = bool(own.can_cut)

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder options that the user's encoder needs."""
        with self._blamed("reading"):
            found = dict(self._own.reading(kind))
        if not all(isinstance(name, str) for name in found):
            raise DataError(f"encoder {self.name!r}: reading returned {found!r:.80}; {_EXPECTED}")
        return found

    def identity(self) -> Mapping[str, Any]:
        """Return the identity of the user's encoder, and the digest of its package's sources."""
        with self._blamed("identity"):
            found = json.loads(json.dumps(dict(self._own.identity()), allow_nan=False))
        sources = imported_digest(package_of(self.name))
        return {**found, "encoder": self.name, "pooling": self._pooling, "sources": sources}

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the number of features of an item, >= 1."""
        with self._blamed("n_features"):
            found = self._own.n_features(shape)
        if type(found) is not int or found < 1:
            raise DataError(
                f"encoder {self.name!r}: n_features returned {found!r:.40}; expected a whole "
                "number from 1"
            )
        return found

    def encode(self, items: Array) -> Array:
        """Encode the items of one batch. Return float32 [n, features]."""
        with self._blamed("encode"):
            found = self._own.encode(items)
        expected = (len(items), self.n_features(items.shape[1:]))
        is_array = isinstance(found, np.ndarray)
        if not is_array or found.shape != expected or found.dtype.kind != "f":
            told = f"{found.dtype} {list(found.shape)}" if is_array else type(found).__name__
            raise DataError(
                f"encoder {self.name!r}: encode returned {told}; expected float32 {list(expected)}"
            )
        return np.ascontiguousarray(found, np.float32)

    def too_long(self, items: Array) -> int:
        """Return how many of these items are truncated."""
        with self._blamed("too_long"):
            return int(self._own.too_long(items))

    @property
    def licence(self) -> str:
        """Return the licence of the weights."""
        return str(self._own.licence)

    @property
    def logit_scale(self) -> float | None:
        """The factor that turns cosines with texts into logits, > 0; None without a text tower."""
        found = self._own.logit_scale
        if found is None:
            return None
        if not isinstance(found, float | int) or not 0 < found < float("inf"):
            raise ConfigError(
                f"encoder {self.name!r} has logit_scale={found!r:.40}; expected a number above 0"
            )
        return float(found)

    def _blamed(self, what: str) -> AbstractContextManager[None]:
        return readable_errors(f"encoder {self.name!r}: {what} failed")


def _import(name: str, allowed_packages: Sequence[str]) -> type[PretrainedEncoder]:
    found = import_class(name, kind="encoder", allowed_packages=allowed_packages)
    if not isinstance(found, type) or not issubclass(found, PretrainedEncoder):
        raise ConfigError(f"encoder {name!r} is no subclass of PretrainedEncoder; {_EXPECTED}")
    _imported[name] = found
    return found


def _named(values: Any) -> Iterator[str]:
    """Yield the value of every "encoder" in JSON values."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "encoder" and isinstance(value, str):
                yield value
            else:
                yield from _named(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _named(value)


def _what_is_wrong(own: PretrainedEncoder) -> str:
    """Return the first invalid attribute and what was expected; "" if none."""
    kinds = getattr(own, "kinds", None)
    is_set = isinstance(kinds, set | frozenset | tuple | list) and len(kinds) > 0
    if not is_set or not all(isinstance(kind, str) for kind in kinds or ()):
        return f"kinds={kinds!r:.60}; expected a set of kinds of data"
    if type(own.batch_items) is not int or own.batch_items < 1:
        return f"batch_items={own.batch_items!r:.40}; expected a whole number from 1"
    return ""
