import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from metafleet.data.decoding import audio, video
from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.kinds import Kinds
from metafleet.errors import ConfigError, DataMissingError, DecodeError
from tests.unit.metafleet.data.decoding.samples import (
    animation,
    clip,
    display_matrix,
    npy,
    patched,
    picture,
    png,
    tone,
    wav,
)

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (48, 64, 3), np.uint8)


def decode(kind: str, source: bytes, **options):
    decoder = DECODERS[kind]
    chosen = decoder.Options(**options)
    decoder.check(chosen)
    row = decoder.decode(source, chosen)
    dtype, shape = decoder.example(chosen)
    assert row.dtype == dtype and row.shape == shape
    assert row.flags.c_contiguous
    return row


def test_a_picture_of_the_right_size_keeps_its_pixels():
    square = COLOURS[:, :48]

    np.testing.assert_array_equal(decode("image", png(square), side=48), square.transpose(2, 0, 1))
    np.testing.assert_array_equal(
        decode("image", png(square[..., 0]), side=48, channels=1)[0], square[..., 0]
    )


def test_a_picture_is_cropped_padded_or_stretched():
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200

    assert (decode("image", png(wide), side=8) == 200).all()
    padded = decode("image", png(wide), side=16, fit="pad")
    assert (padded[:, :4] == 255).all() and (padded[:, 12:] == 255).all()
    assert (padded[:, 4:12, 4:12] == 200).all() and (padded[:, 4:12, :4] == 0).all()
    stretched = decode("image", png(wide), side=16, fit="stretch")
    assert (stretched[:, :, 6:10] == 200).all() and (stretched[:, :, 0] == 0).all()


def test_transparency_palettes_and_depth_become_plain_pixels():
    clear = np.zeros((4, 4, 4), np.uint8)
    deep = np.full((4, 4), 65535, np.uint16)
    palette = picture(Image.fromarray(COLOURS).quantize(16), "GIF")

    assert (decode("image", png(clear), side=4) == 255).all()
    assert (decode("image", picture(Image.fromarray(deep), "PNG"), side=4) == 255).all()
    assert decode("image", palette, side=32).std() > 20


def test_a_photograph_is_turned_as_its_camera_noted():
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down

    row = decode("image", picture(Image.fromarray(upright[::-1, ::-1]), "PNG", exif=turned), side=8)

    assert (row[:, :4] == 255).all() and (row[:, 4:] == 0).all()


def bomb() -> bytes:
    """Return a PNG of a few bytes that promises 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_sound_is_a_spectrogram_with_its_energy_in_the_right_band():
    options = audio.AudioOptions(sample_rate_hz=8000, duration_s=0.5)
    filters = audio.mel_filters(options)
    for hz in (300.0, 1000.0, 2500.0):
        row = decode("audio", wav(tone(hz, 0.5)), sample_rate_hz=8000, duration_s=0.5)

        centre = np.argmax(filters, axis=1) * 8000 / options.n_fft
        loudest = int(row.astype(np.float64).mean(axis=1).argmax())
        assert abs(centre[loudest] - hz) < np.diff(centre)[max(loudest - 1, 0)]


def test_the_spectrogram_is_that_of_the_definition():
    options = audio.AudioOptions(sample_rate_hz=4000, duration_s=0.1, n_mels=12)
    samples = RNG.normal(size=options.n_samples).astype(np.float32)

    n, frames = options.n_fft, []
    for start in range(0, len(samples) - options.window + 1, options.hop):
        window = np.array(
            [0.5 - 0.5 * np.cos(2 * np.pi * i / options.window) for i in range(options.window)]
        )
        part = samples[start : start + options.window].astype(np.float64) * window
        powers = [
            abs(sum(x * np.exp(-2j * np.pi * k * i / n) for i, x in enumerate(part))) ** 2
            for k in range(n // 2 + 1)
        ]
        frames.append(np.log10(np.maximum(audio.mel_filters(options) @ powers, 1e-10)))
    decades = np.array(frames).T
    expected = (np.maximum(decades, decades.max() - 8) + 4) / 4

    np.testing.assert_allclose(audio.log_mel(samples, options), expected, atol=1e-9)


def test_resampling_and_mixing_down_keep_the_sound():
    mono = wav(tone(440, 0.4))
    stereo = wav(np.stack([tone(440, 0.4, 44_100)] * 2, axis=1), 44_100, format="FLAC")
    chosen = {"sample_rate_hz": 8000, "duration_s": 0.3}

    here, there = decode("audio", mono, **chosen), decode("audio", stereo, **chosen)

    loud = here > here.max() - 0.5
    np.testing.assert_allclose(here[loud], there[loud], atol=0.05)
    assert loud.sum() > 50


def test_a_short_sound_is_followed_by_silence_and_a_long_one_is_cut():
    short = decode("audio", wav(tone(500, 0.2)), sample_rate_hz=8000, duration_s=1.0)
    long = decode("audio", wav(tone(500, 9.0)), sample_rate_hz=8000, duration_s=1.0)

    assert (short[:, -50:] == short.min()).all() and short[:, :10].max() > short.min() + 1
    assert long[:, -10:].max() > long.min() + 1


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_an_animation_gives_frames_from_all_over_it(format):
    frames = [np.full((16, 16, 3), 25 * n, np.uint8) for n in range(10)]

    row = decode("video", animation(frames, format), frames=5, side=16)

    means = row.reshape(5, -1).mean(axis=1)
    np.testing.assert_allclose(means, [25, 75, 125, 175, 225], atol=2)


@pytest.mark.parametrize(("format", "codec"), [("mp4", "mpeg4"), ("matroska", "mpeg4")])
def test_a_clip_gives_frames_from_all_over_it(format, codec):
    frames = [np.full((32, 48, 3), 25 * n, np.uint8) for n in range(10)]

    row = decode("video", clip(frames, format, codec), frames=5, side=16, channels=1)

    np.testing.assert_allclose(row.reshape(5, -1).mean(axis=1), [25, 75, 125, 175, 225], atol=8)


@pytest.mark.parametrize(
    ("matrix", "bright"),
    [((0, 1, -1, 0), "right"), ((-1, 0, 0, -1), "below"), ((0, -1, 1, 0), "left")],
    ids=["90", "180", "270"],
)
def test_a_clip_is_turned_as_its_camera_noted(matrix, bright):
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:16] = 255

    source = patched(clip([frame] * 4), b"tkhd", 44, ">9i", *display_matrix(*matrix))
    (row,) = decode("video", source, frames=1, side=8, channels=1)

    halves = {"left": row[0, :, :3], "right": row[0, :, 5:], "below": row[0, 5:]}
    assert halves[bright].min() > 200


def test_frames_of_a_clip_that_pauses_are_chosen_in_time():
    frames = [np.full((32, 32, 3), 60 * number, np.uint8) for number in range(4)]

    row = decode("video", clip(frames, times=[0, 1, 2, 9]), frames=5, side=8)  # 10 in all

    means = row.reshape(5, -1).mean(axis=1)  # at 1, 3, 5, 7, 9
    np.testing.assert_allclose(means, [60, 120, 120, 120, 180], atol=6)


@pytest.mark.parametrize(("start", "n"), [(0, 12), (12, 12), (12, 6)])
def test_frames_that_an_edit_list_cuts_away_are_not_shown(start, n):
    frames = [np.full((32, 32, 3), 10 * number, np.uint8) for number in range(24)]
    whole = clip(frames, codec="libx264")
    seconds, first = struct.unpack_from(">Ii", whole, whole.index(b"elst") + 12)

    edit = (seconds * n // 24, first + start * 1024)
    row = decode("video", patched(whole, b"elst", 12, ">Ii", *edit), frames=3, side=8)

    expected = [10 * (start + (2 * i + 1) * n // 6) for i in range(3)]
    np.testing.assert_allclose(row.reshape(3, -1).mean(axis=1), expected, atol=3)


def test_of_a_short_clip_frames_are_repeated():
    still = decode("video", animation([COLOURS], "GIF"), frames=3, side=8)

    assert (still == still[0]).all()
    assert video.count_frames(animation([COLOURS, 255 - COLOURS], "WEBP")) == 2
    assert video.is_animation(animation([COLOURS], "GIF")) and not video.is_animation(png(COLOURS))


def test_a_text_is_its_bytes():
    row = decode("text", "\ufeff  größer ".encode(), max_bytes=12)

    assert bytes(row) == "größer".encode() + bytes(4)
    assert bytes(decode("text", "ab€".encode(), max_bytes=4)) == b"ab\0\0"  # no half character


def test_sentences_of_one_meaning_have_features_that_are_alike():
    queries = (
        "how do I freeze my bank account",
        "please block my account at the bank",
        "will it rain in Paris",
    )

    card, block, rain = (
        decode("text", text.encode(), encoder="minilm").astype(np.float64) for text in queries
    )

    np.testing.assert_allclose([card @ card, rain @ rain], 1, atol=1e-2)
    assert card @ block > 0.5 > card @ rain
    again = decode("text", queries[0].encode(), encoder="minilm")
    np.testing.assert_array_equal(again, card)  # the same bits, whatever came before


def test_a_trace_without_points_is_passed_over():
    ink = "<ink><trace>0 0, 10 0</trace><trace/><trace> </trace></ink>"

    assert decode("stroke", ink.encode(), points=8)[:, 2].sum() == 1


def test_strokes_come_from_json_arrays_and_inkml_alike():
    lines = [[[0, 0], [10, 0], [10, 20]], [[4, 4], [6, 8]]]
    quick = {"drawing": [[[0, 10, 10], [0, 0, 20], [1, 2, 3]], [[4, 6], [4, 8]]]}
    rows = npy(np.array([[0, 0, 0], [10, 0, 0], [10, 20, 1], [4, 4, 0], [6, 8, 1]], np.float32))
    ink = '<ink xmlns="x"><trace>0 0, 10 0, 10 20</trace><trace>4 4, 6 8</trace></ink>'

    plain = decode("stroke", json.dumps(lines).encode(), points=40)

    for source in (json.dumps(quick).encode(), rows, ink.encode()):
        np.testing.assert_allclose(decode("stroke", source, points=40), plain, atol=1e-3)
    assert plain[:, 2].sum() == 2 and plain[-1, 2] == 1
    np.testing.assert_allclose(plain[:, :2].min(axis=0), [0.25, 0], atol=1e-3)
    np.testing.assert_allclose(plain[:, :2].max(axis=0), [0.75, 1], atol=1e-3)


def test_a_row_of_a_table_is_commas_or_json():
    np.testing.assert_array_equal(decode("table", b"1, -2.5e1 ,3", width=3), [1, -25, 3])
    np.testing.assert_array_equal(decode("table", b"[1, -25, 3.0]", width=3), [1, -25, 3])


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
def test_what_cannot_be_decoded_is_one_line(kind, source, options, message):
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
