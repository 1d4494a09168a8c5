"""Files that end before the end that their containers declare."""

import struct

import numpy as np
import pytest

from metafleet.data.decoding.registry import DECODERS
from metafleet.data.decoding.whole import require_whole
from metafleet.errors import DecodeError
from tests.unit.metafleet.data.decoding.samples import animation, clip, tone, wav

FRAMES = [np.full((32, 32, 3), 12 * n, np.uint8) for n in range(20)]
MELODY = np.concatenate([tone(200 + 60 * n, 0.25) for n in range(16)])


def decode(kind: str, source: bytes) -> np.ndarray:
    decoder = DECODERS[kind]
    return decoder.decode(source, decoder.Options())


def sounds() -> dict[str, bytes]:
    formats = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG", "MP3")
    found = {name.lower(): wav(MELODY, format=name) for name in formats}
    found["rifx"] = wav(MELODY, format="WAV", endian="BIG")
    found["opus"] = wav(MELODY, format="OGG", subtype="OPUS")
    return found


def clips() -> dict[str, bytes]:
    codecs = {"mp4": "mpeg4", "mov": "mpeg4", "avi": "mpeg4", "matroska": "mpeg4", "webm": "vp8"}
    found = {name: clip(FRAMES, name, codec) for name, codec in codecs.items()}
    return found | {name: animation(FRAMES, name.upper()) for name in ("gif", "webp")}


SOURCES = [pytest.param("audio", source, id=name) for name, source in sounds().items()]
SOURCES += [pytest.param("video", source, id=name) for name, source in clips().items()]


@pytest.mark.parametrize(("kind", "source"), SOURCES)
def test_a_part_of_a_sound_or_clip_is_refused_and_all_of_it_is_not(kind, source):
    decode(kind, source)
    rng = np.random.default_rng(len(source))
    cuts = [len(source) // 2, 3 * len(source) // 4, len(source) - 200]
    for cut in (*cuts, *rng.integers(1, len(source) - 200, 6)):
        with pytest.raises(DecodeError):
            decode(kind, source[:cut])


def test_half_a_sound_is_reported_with_both_lengths():
    source = wav(MELODY)

    with pytest.raises(DecodeError) as raised:
        decode("audio", source[: len(source) // 2])

    assert str(len(source)) in str(raised.value)
    assert str(len(source) // 2) in str(raised.value)


def with_sizes(source: bytes, order: str, places: dict[int, int]) -> bytes:
    changed = bytearray(source)
    for place, size in places.items():
        struct.pack_into(f"{order}I", changed, place, size)
    return bytes(changed)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        pytest.param(0xFFFF_FFFF, 0xFFFF_FFFF, id="ffmpeg"),
        pytest.param(0x7FFF_F024, 0x7FFF_F000, id="sox"),
        pytest.param(0x8000_0024, 0x8000_0000, id="arecord"),
    ],
)
def test_a_sound_that_was_written_to_a_pipe_is_taken_as_it_is(outer, inner):
    source = wav(MELODY)
    at = source.index(b"data") + 4

    streamed = with_sizes(source, "<", {4: outer, at: inner})

    np.testing.assert_array_equal(decode("audio", streamed), decode("audio", source))


def test_headers_of_au_and_flac_may_leave_the_length_open():
    au, flac = wav(MELODY, format="AU"), wav(MELODY, format="FLAC")
    count = 8 + 10 + 3  # marker, block header, sizes, rate; its last 36 bits
    low = flac[count] & 0xF0

    unknown = flac[:count] + bytes([low, 0, 0, 0, 0]) + flac[count + 5 :]
    np.testing.assert_array_equal(decode("audio", unknown), decode("audio", flac))
    streamed = with_sizes(au, ">", {8: 0xFFFF_FFFF})
    np.testing.assert_array_equal(decode("audio", streamed), decode("audio", au))


def test_a_sound_whose_inner_length_alone_is_too_large_is_whole():
    source = wav(MELODY)
    at = source.index(b"data") + 4
    n_bytes = len(source) - at - 4

    np.testing.assert_array_equal(
        decode("audio", with_sizes(source, "<", {at: n_bytes + 44})), decode("audio", source)
    )


def test_a_clip_of_an_open_length_is_taken_as_it_is():
    source = clips()["webm"]
    place = source.index(b"\x18\x53\x80\x67") + 4
    assert source[place] == 1  # a length of eight bytes

    streamed = source[:place] + b"\x01" + b"\xff" * 7 + source[place + 8 :]

    np.testing.assert_array_equal(decode("video", streamed), decode("video", source))


def test_bytes_after_the_end_do_no_harm():
    for source in (*sounds().values(), *clips().values()):
        require_whole(source + bytes(64))


@pytest.mark.parametrize("magic", [b"RIFF", b"OggS", b"GIF8", b"\x1a\x45\xdf\xa3", b"ID3", b"FORM"])
def test_junk_after_a_known_beginning_is_left_to_the_decoder(magic):
    rng = np.random.default_rng(len(magic))
    for length in (*range(40), 400):
        try:
            require_whole(magic + rng.bytes(length))
        except DecodeError as error:
            assert "\n" not in str(error)
