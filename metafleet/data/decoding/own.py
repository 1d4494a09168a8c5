"""User-defined decoders, named "package.module:Class"; their errors become one-line messages."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from metafleet.data.decoding.base import Array, Decoder, Readable
from metafleet.data.decoding.depth import Range
from metafleet.data.decoding.shown import Shown
from metafleet.errors import ConfigError, DataError, DecodeError
from metafleet.registry import import_class, readable_errors

if TYPE_CHECKING:
    from PIL.Image import Image

    from metafleet.data.decoding.drawing import Fonts

_EXPECTED: Final = "see Decoder in metafleet/data/decoding/base.py"
_NUMBERS: Final = "biuf"
"""Kinds of numpy dtypes that hold numbers and booleans."""


class OwnDecoder(Decoder):
    """Wraps a user's decoder and checks everything that it returns.

    Args:
        name: "package.module:Class", the name of its kind.
        own: the user's decoder.
    """

    def __init__(self, name: str, own: Decoder) -> None:
        self.kind, self.own = name, own
        self.version, self.suffixes = own.version, frozenset(own.suffixes)
        self.Options, self.default_encoder = own.Options, own.default_encoder
        self.problem, self.is_pixels, self.n_squares = own.problem, own.is_pixels, own.n_squares
        self.is_picture, self.is_text = own.is_picture, own.is_text
        self.joins_columns = own.joins_columns

    @property
    def short_name(self) -> str:
        """Return the short name that the class gives its kind."""
        return self.own.kind

    def check(self, options: Any) -> None:
        """Check that the libraries for decoding are installed."""
        with self._blamed("check"):
            self.own.check(options)

    def is_quick(self, options: Any) -> bool:
        """Return the result of the user's ``is_quick``."""
        with self._blamed("is_quick"):
            return bool(self.own.is_quick(options))

    def claims(self, part: Readable) -> bool:
        """Return the result of the user's ``claims``."""
        with self._blamed("claims"):
            return bool(self.own.claims(part))

    def measured(
        self, options: Any, given: Mapping[str, Any], parts: Iterable[Readable]
    ) -> tuple[Any, Mapping[str, Any]]:
        """Fill in the options that depend on the data."""
        with self._blamed("measured"):
            filled, found = self.own.measured(options, given, parts)
            return dataclasses.replace(filled), dict(found)

    def sizes(self, shape: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the options that follow from a shape."""
        with self._blamed("sizes"):
            return dict(self.own.sizes(shape))

    def example(self, options: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Return dtype and shape of one decoded item."""
        with self._blamed("example"):
            dtype, shape = self.own.example(options)
            found, sizes = np.dtype(dtype), tuple(shape)
        if found.kind not in _NUMBERS or not all(type(n) is int and n >= 1 for n in sizes):
            raise DataError(
                f"kind {self.kind!r}: example returned {found} {list(sizes)}; expected a numpy "
                "dtype of numbers and a shape of whole numbers from 1"
            )
        if self.is_picture and (found != np.uint8 or len(sizes) != 3):
            raise DataError(
                f"kind {self.kind!r}: example returned {found} {list(sizes)}; expected uint8 "
                "[channels, height, width], as is_picture says"
            )
        return found, sizes

    def decode(self, source: bytes, options: Any) -> Array:
        """Decode one item to the dtype and shape of ``example``."""
        try:
            with self._blamed("decode"):
                item = self.own.decode(source, options)
        except DecodeError:
            raise
        except DataError as error:
            raise DecodeError(str(error)) from error
        dtype, shape = self.example(options)
        if not isinstance(item, np.ndarray) or item.dtype != dtype or item.shape != shape:
            is_array = isinstance(item, np.ndarray)
            found = f"{item.dtype} {list(item.shape)}" if is_array else type(item).__name__
            raise DecodeError(
                f"kind {self.kind!r}: decode returned {found}; expected an array {dtype} "
                f"{list(shape)}, as example says"
            )
        if not np.isfinite(item).all():
            raise DecodeError(f"kind {self.kind!r}: decode returned values that are not finite")
        return item

    def draw(self, item: Array, fonts: "Fonts") -> "Image":
        """Draw a decoded item as a tile."""
        from PIL import Image  # noqa: PLC0415 - only the sheet needs it

        with self._blamed("draw"):
            tile = self.own.draw(item, fonts)
        if not isinstance(tile, Image.Image):
            raise DataError(
                f"kind {self.kind!r}: draw returned a {type(tile).__name__}; expected a PIL image"
            )
        return tile

    def show(self, item: Array, options: Mapping[str, Any], fonts: "Fonts") -> Shown:
        """Return the result of the user's ``show``."""
        with self._blamed("show"):
            found = self.own.show(item, options, fonts)
        if not isinstance(found, Shown):
            raise DataError(
                f"kind {self.kind!r}: show returned a {type(found).__name__}; expected Shown"
            )
        return found

    def _blamed(self, what: str) -> AbstractContextManager[None]:
        return readable_errors(f"kind {self.kind!r}: {what} failed")


def import_decoder(name: str, *, allowed_packages: Sequence[str]) -> OwnDecoder:
    """Return the decoder for the class "package.module:Class".

    Raises:
        ConfigError: the package is not allowed or cannot be imported, or has no such class.
        DataError: the class cannot be instantiated.
    """
    found = import_class(name, kind="kind", allowed_packages=allowed_packages)
    if not isinstance(found, type) or not issubclass(found, Decoder):
        raise ConfigError(f"kind {name!r} is no subclass of Decoder; {_EXPECTED}")
    with readable_errors(f"kind {name!r} cannot be made"):
        own = found()
        reason = _what_is_wrong(own)
    if reason:
        raise ConfigError(f"kind {name!r} has {reason}; {_EXPECTED}")
    return OwnDecoder(name, own)


def _what_is_wrong(own: Any) -> str:
    """Return the first invalid attribute of a decoder and what was expected; "" if none."""
    for attribute, fits, expected in _ATTRIBUTES:
        value = getattr(own, attribute, None)
        if not fits(value):
            return f"{attribute}={value!r:.80}; expected {expected}"
    if own.is_picture and not own.is_pixels:
        return "is_pixels=False; expected True, as is_picture says"
    if own.is_picture and typing.get_type_hints(own.Options).get("range", Range) != Range:
        return "an option range of another type; expected that of ImageOptions, as is_picture says"
    if own.joins_columns and ".csv" not in own.suffixes:
        return f'suffixes={own.suffixes!r:.80}; expected ".csv" among them, as joins_columns says'
    return ""


def _is_short_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and value == value.lower()


def _are_suffixes(value: Any) -> bool:
    return isinstance(value, set | frozenset | tuple | list) and all(
        isinstance(s, str) and s.startswith(".") and s == s.lower() for s in value
    )


def _are_options(value: Any) -> bool:
    is_class = isinstance(value, type) and dataclasses.is_dataclass(value)
    return (
        is_class
        and value.__dataclass_params__.frozen
        and not any(
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in dataclasses.fields(value)
        )
    )


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


_ATTRIBUTES: Final = (
    ("kind", _is_short_name, "a short name of small letters"),
    ("version", _is_count, "a whole number from 1"),
    ("suffixes", _are_suffixes, 'a set of suffixes such as ".xyz", in small letters'),
    ("Options", _are_options, "a frozen dataclass with a default for each field"),
    ("default_encoder", _is_filled, "the name of a model"),
    ("problem", _is_filled, "what is wrong with an item that cannot be decoded"),
    ("is_pixels", _is_flag, "True or False"),
    ("is_picture", _is_flag, "True or False"),
    ("is_text", _is_flag, "True or False"),
    ("joins_columns", _is_flag, "True or False"),
    ("n_squares", _is_count, "a whole number from 1"),
)
