"""The decoders by kind. This is the only list of kinds of data.

A kind is built in, or it is a user's class, named "package.module:Class".
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
"""User-defined kinds that this process was allowed to import."""


def is_own(kind: str) -> bool:
    """Return whether a kind is a user's class."""
    return ":" in kind


def has_decoder(kind: str) -> bool:
    """Return whether a kind names a decoder; arrays of built-in data sets may have none."""
    return kind in DECODERS or is_own(kind)


def import_kinds(kinds: Iterable[str], *, allowed_packages: Sequence[str]) -> None:
    """Import the user-defined kinds for ``get_decoder``. Raises the errors of ``get_decoder``."""
    for kind in filter(is_own, kinds):
        get_decoder(kind, allowed_packages=allowed_packages)


def get_decoder(kind: str, *, allowed_packages: Sequence[str] = ()) -> Decoder:
    """Return the decoder of a kind.

    Args:
        kind: a built-in kind, or "package.module:Class".
        allowed_packages: user packages that may be imported. If this process has already imported
            the kind, the kind's package need not be among them.

    Raises:
        KeyError: there is no such built-in kind.
        ConfigError: the package is not allowed or cannot be imported, or has no such decoder.
    """
    if not is_own(kind):
        return DECODERS[kind]
    if kind not in _imported or allowed_packages:
        found = import_decoder(kind, allowed_packages=allowed_packages)
        _imported[kind] = found
    return _imported[kind]
