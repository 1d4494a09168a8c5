"""What decoders of all kinds do alike: refuse files and options in one line."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.kinds import Kinds
from metafleet.errors import ConfigError, DataMissingError, DecodeError
from tests.unit.metafleet.data.decoding.samples import (
    animation,
    clip,
    npy,
    picture,
    png,
    tone,
    wav,
)

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (48, 64, 3), np.uint8)


def bomb() -> bytes:
    """Return a PNG of a few bytes that promises 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def shortened(source: bytes) -> bytes:
    return source[: 2 * len(source) // 3]


LONG_CLIP = clip([RNG.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(12)], "matroska")
BAD = {
    "picture of no format": ("image", b"GARBAGE" * 9, {}, "no picture of a known format"),
    "empty picture": ("image", b"", {}, "no picture of a known format"),
    "half a picture": ("image", shortened(png(COLOURS)), {}, "picture is damaged"),
    "picture that is a bomb": ("image", bomb(), {}, "60000x60000 pixels|too large"),
    "picture of floats": (
        "image",
        picture(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
        {},
        "float pixels",
    ),
    "sound of no format": ("audio", b"RIFFRIFFRIFF", {}, "sound cannot be read"),
    "sound without samples": ("audio", wav(np.zeros(0)), {}, "no samples"),
    "sound that is not finite": (
        "audio",
        wav(np.full(800, np.nan), subtype="FLOAT"),
        {},
        "not finite",
    ),
    "sound of two samples a second": ("audio", wav(np.ones(8) / 2, 2), {}, "2 samples a second"),
    "half a FLAC": (
        "audio",
        shortened(wav(RNG.normal(size=9000) / 9, format="FLAC")),
        {},
        "sound (ends|cannot)",
    ),
    "clip of no format": ("video", b"GARBAGE" * 9, {}, "clip cannot be read"),
    "half an mp4": ("video", shortened(clip([COLOURS] * 9)), {}, "clip cannot be read|truncated"),
    "half a clip": ("video", LONG_CLIP[:3000], {}, "clip|truncated"),
    "half an animation": (
        "video",
        shortened(animation([COLOURS, 255 - COLOURS], "GIF")),
        {},
        "damaged|truncated",
    ),
    "sound for a clip": ("video", wav(tone(400, 0.2)), {}, "no video stream"),
    "text that is not UTF-8": ("text", "größer".encode("latin-1"), {}, "not UTF-8.*byte 2"),
    "empty text": ("text", b" \n", {}, "text is empty"),
    "text with a zero": ("text", b"a\0b", {}, r"U\+0000"),
    "endless text": ("text", b"a" * (1 << 21), {}, "has 2097152 bytes"),
    "strokes that are no JSON": ("stroke", b"[[1,", {}, "no JSON, npy or InkML"),
    "strokes of words": ("stroke", b'[["a"]]', {}, "stroke 0 is no list of points"),
    "no strokes": ("stroke", b"[]", {}, "no strokes"),
    "strokes of huge numbers": ("stroke", b"[[[1" + b"0" * 400 + b", 1]]]", {}, "no list of"),
    "ink without points": ("stroke", b"<ink><trace/></ink>", {}, "no strokes"),
    "ink of half points": ("stroke", b"<ink><trace>1, 2</trace></ink>", {}, "trace 0"),
    "an array without a header": ("stroke", npy(np.ones((4, 3))).replace(b"}", b" "), {}, "array"),
    "strokes to infinity": ("stroke", b"[[[0, 0], [1e400, 1]]]", {}, "not finite"),
    "strokes with entities": ("stroke", b"<!DOCTYPE a><ink/>", {}, "entities"),
    "strokes with relative points": (
        "stroke",
        b"<ink><trace>0 0, '1 2</trace></ink>",
        {},
        "trace 0",
    ),
    "an array that lies": ("stroke", npy(np.ones((4, 3)))[:-5], {}, "does not fit"),
    "an array of objects": (
        "stroke",
        npy(np.zeros((2, 3), "S4")),
        {},
        "does not fit",
    ),
    "an array of another shape": ("stroke", npy(np.ones((4, 2))), {}, r"array \[4, 2\]"),
    "a row of words": ("table", b"1,two", {"width": 2}, "column 1 of the row is 'two'"),
    "a row too short": ("table", b"1,2", {"width": 3}, "has 2 numbers; expected 3"),
    "a row to infinity": ("table", b"1,1e39", {"width": 2}, "column 1.*finite"),
}


@pytest.mark.parametrize(("kind", "source", "options", "message"), BAD.values(), ids=BAD)
def test_a_decoding_error_is_one_line(kind, source, options, message):
    decoder = DECODERS[kind]

    with pytest.raises(DecodeError, match=message) as caught:
        decoder.decode(source, decoder.Options(**options))

    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("image", {"side": 0}),
        ("image", {"channels": 2}),
        ("audio", {"sample_rate_hz": 10}),
        ("audio", {"duration_s": 1e9}),
        ("audio", {"hop_ms": 0.0}),
        ("audio", {"n_mels": 500, "sample_rate_hz": 8000}),
        ("video", {"frames": 0}),
        ("text", {"max_bytes": 0}),
        ("stroke", {"points": 1}),
        ("table", {"width": 0}),
    ],
)
def test_an_option_out_of_range_is_named(kind, options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        DECODERS[kind].Options(**options)


def test_suffixes_name_kinds():
    assert Kinds().of_name("a.PNG") == ("image",)
    assert Kinds().of_name("a.b.gif") == ("image", "video")
    assert Kinds().of_name("a.exe") == Kinds().of_name("png") == ()


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("image", "PIL", "data"), ("audio", "soundfile", "audio"), ("audio", "soxr", "audio")],
)
def test_a_missing_library_is_named_with_its_extra(kind, module, extra, monkeypatch):
    decoder = DECODERS[kind]
    for name in (module, f"{module}.Image"):
        monkeypatch.setitem(__import__("sys").modules, name, None)

    with pytest.raises(DataMissingError, match=rf"metafleet\[{extra}\]"):
        decoder.check(decoder.Options())
