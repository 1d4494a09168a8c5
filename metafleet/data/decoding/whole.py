"""Detect truncated files: compare the length that the container declares with the file's length.

The check is needed because some decoders silently accept the first half of a file as the whole
file. Programs that write to a pipe do not know the length in advance and declare 0 or the largest
possible value. Such files are not checked.
"""

import struct
from collections.abc import Callable, Iterator

from metafleet.errors import DecodeError

_NEAR_2_GIB = 0x7FFF_0000
"""32-bit lengths from here on mean "unknown": SoX writes this one, other programs 2**32 - 1."""
_ID3V1_BYTES = 128  # tag at the end of an MP3: some encoders count it, some programs drop it
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"uuid", b"meta")
_OGG_HEADER_BYTES = 27


def require_whole(source: bytes) -> None:
    """Check that a sound, clip or animation is not shorter than it declares.

    The supported formats are RIFF (WAV, AVI, WebP), RF64, Wave64, AIFF, AU, Ogg, MP3 with a Xing or
    VBRI header, MP4 and QuickTime, Matroska and WebM, and GIF. Other formats and invalid headers
    are left to the decoder.

    Raises:
        DecodeError: the file is truncated.
    """
    try:
        declared = _declared(source)
    except (struct.error, IndexError):
        return  # the header itself is cut short
    if declared > len(source):
        raise DecodeError(
            f"it is truncated: it declares {declared} bytes or more, and {len(source)} are "
            "there; get the file again"
        )


def _declared(source: bytes) -> int:
    """Return the minimum number of bytes that the file declares; 0 if it declares none."""
    for magic, read in _READERS:
        if source.startswith(magic):
            return read(source)
    if source[4:8] in _BOXES:
        return _boxes(source)
    return _mp3(source)


def _riff(source: bytes) -> int:
    if source[8:12] == b"WAVE":
        return _chunked(source, "<", b"data")
    return _outer(source, "<") if source[8:12] in (b"AVI ", b"WEBP") else 0


def _form(source: bytes) -> int:
    return _chunked(source, ">", b"SSND") if source[8:12] in (b"AIFF", b"AIFC") else 0


def _outer(source: bytes, order: str) -> int:
    (size,) = struct.unpack_from(f"{order}I", source, 4)
    return 0 if _is_unknown(size) else 8 + size


def _is_unknown(size: int) -> bool:
    return size == 0 or size >= _NEAR_2_GIB


def _chunked(source: bytes, order: str, wanted: bytes) -> int:
    """Return where the file should end according to its chunks; 0 if the outer chunk fits the file.

    If the file contains the whole outer chunk, the inner chunks are not read, because the lengths
    that some of them declare are too large.

    Args:
        source: a file with one outer chunk that holds the others.
        order: byte order of numbers, "<" or ">".
        wanted: name of the chunk with the samples.
    """
    outer = _outer(source, order)
    if 0 < outer <= len(source):
        return 0
    return _end_of_chunk(source, order, wanted) or outer


def _end_of_chunk(source: bytes, order: str, wanted: bytes) -> int:
    place = 12
    while place + 8 <= len(source):
        (size,) = struct.unpack_from(f"{order}I", source, place + 4)
        if source[place : place + 4] == wanted:
            return 0 if _is_unknown(size) else place + 8 + size
        place += 8 + size + size % 2
    return 0


def _rf64(source: bytes) -> int:
    if source[12:16] != b"ds64":
        return 0
    size = int(struct.unpack_from("<Q", source, 20)[0])
    return 0 if size >= 1 << 63 else 8 + size


def _wave64(source: bytes) -> int:
    size = int(struct.unpack_from("<Q", source, 16)[0])
    return 0 if size >= 1 << 63 else size


def _au(source: bytes) -> int:
    start, size = struct.unpack_from(">II", source, 4)
    return 0 if _is_unknown(size) else start + size


def _ogg(source: bytes) -> int:
    """Follow the pages to the last one; the table of a page gives its length."""
    place = 0
    while source[place : place + 4] == b"OggS":
        table = source[place + _OGG_HEADER_BYTES :][: source[place + _OGG_HEADER_BYTES - 1]]
        place += _OGG_HEADER_BYTES + len(table) + sum(table)
        if place > len(source):
            return place
    return place


def _boxes(source: bytes) -> int:
    place = 0
    while place + 8 <= len(source):
        size, name = struct.unpack_from(">I4s", source, place)
        if size == 1:
            (size,) = struct.unpack_from(">Q", source, place + 8)
        if size < 8 or not name.isalnum():  # 0: up to the end; otherwise appended foreign bytes
            return 0
        place += size
    return place


def _matroska(source: bytes) -> int:
    place = len(_EBML)
    length, n_bytes = _vint(source, place)
    place += n_bytes + (length or 0)
    if source[place : place + len(_SEGMENT)] != _SEGMENT:
        return 0
    place += len(_SEGMENT)
    length, n_bytes = _vint(source, place)
    return 0 if length is None else place + n_bytes + length


def _vint(source: bytes, place: int) -> tuple[int | None, int]:
    """Return an EBML number of 1 to 8 bytes, None for unknown (all ones), and its length."""
    n_bytes = 9 - source[place].bit_length()
    value = int.from_bytes(source[place : place + n_bytes], "big") & ((1 << 7 * n_bytes) - 1)
    return (None if value == (1 << 7 * n_bytes) - 1 else value), n_bytes


def _gif(source: bytes) -> int:
    """Follow the blocks to the trailer. A file that ends between two blocks counts as complete."""
    place = 13 + _palette_bytes(source[10])
    while place < len(source) and source[place] in (0x21, 0x2C):
        if source[place] == 0x21:
            place += 2
        else:
            place += 11 + (_palette_bytes(source[place + 9]) if place + 9 < len(source) else 0)
        while place < len(source) and source[place]:
            place += 1 + source[place]
        place += 1  # the empty block that ends the data
    return place


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _mp3(source: bytes) -> int:
    start = 0
    if source[:3] == b"ID3":
        sizes = source[6:10]
        start = 10 + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3])
    head = source[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III
        return 0
    is_first, is_mono = head[1] & 0x18 == 0x18, head[3] & 0xC0 == 0xC0  # MPEG 1, one channel
    place = start + 4 + ((17 if is_mono else 32) if is_first else (9 if is_mono else 17))
    for size in (*_xing(source, place), *_vbri(source, start + 36)):
        return start + size - _ID3V1_BYTES
    return 0


def _xing(source: bytes, place: int) -> Iterator[int]:
    if source[place : place + 4] in (b"Xing", b"Info"):
        (flags,) = struct.unpack_from(">I", source, place + 4)
        if flags & 2:
            yield struct.unpack_from(">I", source, place + 8 + 4 * (flags & 1))[0]


def _vbri(source: bytes, place: int) -> Iterator[int]:
    if source[place : place + 4] == b"VBRI":
        yield struct.unpack_from(">I", source, place + 10)[0]


_READERS: tuple[tuple[bytes, Callable[[bytes], int]], ...] = (
    (b"RIFF", _riff),
    (b"RIFX", lambda source: _chunked(source, ">", b"data")),
    (b"RF64", _rf64),
    (_W64_RIFF, _wave64),
    (b"FORM", _form),
    (b".snd", _au),
    (b"OggS", _ogg),
    (_EBML, _matroska),
    (b"GIF8", _gif),
)
