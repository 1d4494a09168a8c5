"""Items as web pages show them."""

import io
import wave
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.shown import LONGEST_SIDE, Shown
from metafleet.data.sheet.sheet_fonts import SheetFonts

RNG = np.random.default_rng(4)


def show(kind: str, item: Any, **options: Any) -> Shown:
    return get_decoder(kind).show(item, options, SheetFonts())


def pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_picture_keeps_its_pixels() -> None:
    item = RNG.integers(0, 256, (3, 20, 20), np.uint8)
    assert np.array_equal(pixels(show("image", item).pictures[0]), item.transpose(1, 2, 0))


def test_ink_is_dark_on_light() -> None:
    item = RNG.integers(0, 256, (20, 20), np.uint8)
    assert np.array_equal(pixels(show("image", item).pictures[0]), 255 - item)


def test_a_large_picture_is_scaled_down() -> None:
    item = RNG.integers(0, 256, (3, 300, 300), np.uint8)
    assert pixels(show("image", item).pictures[0]).shape == (LONGEST_SIDE, LONGEST_SIDE, 3)


def test_a_wave_can_be_heard() -> None:
    item = RNG.uniform(-1, 1, 4000).astype(np.float32)
    found = show("audio", item, sample_rate_hz=8000)
    with wave.open(io.BytesIO(found.sound)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (8000, 1, 4000)
        samples = np.frombuffer(sound.readframes(4000), "<i2") / 32767
    assert np.abs(samples - item).max() < 1e-4
    assert found.pictures and found.drawing


@pytest.mark.parametrize("n", [1, 3, 50])
def test_a_very_short_wave_is_shown(n: int) -> None:
    assert show("audio", RNG.uniform(-1, 1, n).astype(np.float32), sample_rate_hz=8000).sound


def test_a_spectrogram_has_low_frequencies_at_the_bottom() -> None:
    item = np.zeros((40, 30), np.float16)
    item[0] = 1
    found = show("audio", item)
    assert not found.sound
    rows = pixels(found.pictures[0]).mean(axis=1)
    assert rows[-1] == 0 and rows[0] == 255


def test_a_clip_is_its_first_and_last_frame_and_some_between() -> None:
    item = RNG.integers(0, 256, (9, 3, 8, 8), np.uint8)
    found = show("video", item).pictures
    assert len(found) == 4
    assert np.array_equal(pixels(found[0]), item[0].transpose(1, 2, 0))
    assert np.array_equal(pixels(found[-1]), item[-1].transpose(1, 2, 0))


def test_a_text_is_shown_as_it_is() -> None:
    raw = "süß <b>".encode()
    item = np.frombuffer(raw.ljust(20, b"\0"), np.uint8)
    assert show("text", item).text == "süß <b>"


def test_numbers_are_shown_if_they_are_few() -> None:
    item = RNG.normal(size=5).astype(np.float32)
    assert show("table", item).numbers == tuple(item.astype(float).tolist())
    assert show("table", RNG.normal(size=50).astype(np.float32)).pictures


@pytest.mark.parametrize("length", [1, 2, 1000])
@pytest.mark.parametrize("kind", ["series", "stroke"])
def test_curves_and_strokes_are_svg(kind: str, length: int) -> None:
    item = RNG.random((length, 3)).astype(np.float32)
    drawing = show(kind, item).drawing
    assert ET.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(drawing) < 20_000 and "nan" not in drawing
