"""The decoders by the kind of data they read: the one list of kinds there is."""

from collections.abc import Mapping

from metafleet.data.decoding.audio import AudioDecoder
from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.image import ImageDecoder
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


def kinds_of(suffix: str) -> tuple[str, ...]:
    """Return the kinds of data that files with this suffix may hold, the likeliest first."""
    return tuple(kind for kind, d in DECODERS.items() if suffix.lower() in d.suffixes)
