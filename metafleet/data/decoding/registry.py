"""The decoders by the kind of data they read: the one list of kinds there is.

A kind is a built-in one or, as "package.module:Class", a class of the user's.
"""

from collections.abc import Iterable, Mapping, Sequence

from metafleet.data.decoding.audio import AudioDecoder
from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.image import ImageDecoder
from metafleet.data.decoding.own import OwnDecoder, import_decoder
from metafleet.data.decoding.series import SeriesDecoder
from metafleet.data.decoding.stroke import StrokeDecoder
from metafleet.data.decoding.table import TableDecoder
from metafleet.data.decoding.text import TextDecoder
from metafleet.data.decoding.video import VideoDecoder

_ALL: tuple[Decoder, ...] = (
    ImageDecoder(),
    AudioDecoder(),
    VideoDecoder(),
    TextDecoder(),
    StrokeDecoder(),
    TableDecoder(),
    SeriesDecoder(),
)
DECODERS: Mapping[str, Decoder] = {decoder.kind: decoder for decoder in _ALL}
_imported: dict[str, OwnDecoder] = {}
"""Kinds of the user's that this process was allowed to import."""


def is_own(kind: str) -> bool:
    """Return whether a kind is a class of the user's."""
    return ":" in kind


def has_decoder(kind: str) -> bool:
    """Return whether a kind names a decoder; arrays of built-in sets may be of none."""
    return kind in DECODERS or is_own(kind)


def import_kinds(kinds: Iterable[str], *, allowed_packages: Sequence[str]) -> None:
    """Import those kinds that are the user's own, for ``get_decoder`` to find. Raises as that."""
    for kind in filter(is_own, kinds):
        get_decoder(kind, allowed_packages=allowed_packages)


def get_decoder(kind: str, *, allowed_packages: Sequence[str] = ()) -> Decoder:
    """Return the decoder of a kind.

    Args:
        kind: a built-in one, or "package.module:Class".
        allowed_packages: packages of the user that may be imported; what this process has imported
            before is given again without.

    Raises:
        KeyError: there is no such built-in kind.
        ConfigError: the package is not allowed or cannot be imported, or holds no decoder.
    """
    if not is_own(kind):
        return DECODERS[kind]
    if kind not in _imported or allowed_packages:
        found = import_decoder(kind, allowed_packages=allowed_packages)
        _imported[kind] = found
    return _imported[kind]
