"""Views are augmented copies that depend on the item and the number of the view alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metafleet.data.decoding.features import check_encoder
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.views import crop_view, view_rng, wave_view
from metafleet.data.registry import open_data
from metafleet.encoders.store import item_key
from metafleet.encoders.waves import sound_length
from metafleet.errors import ConfigError
from metafleet.options import parse_options
from tests.viewed import options, write_colours, write_pictures

SIDE = 128
_RAMP = np.linspace(0, 255, SIDE).astype(np.uint8)
RAMPS = np.stack([np.tile(_RAMP, (SIDE, 1)), np.tile(_RAMP[:, None], (1, SIDE))])
"""The first plane tells a pixel's column, the second its row."""


def crop(number: int, *, flip: bool) -> Any:
    return crop_view(RAMPS, view_rng(item_key(RAMPS), number), flip=flip, resample="bilinear")


def test_a_crop_has_half_of_the_area_at_least_and_is_mirrored_only_if_asked() -> None:
    views = [crop(number, flip=True).astype(float) for number in range(1, 101)]
    spans = [(abs(v[0, 0, -1] - v[0, 0, 0]) / 255, (v[1, -1, 0] - v[1, 0, 0]) / 255) for v in views]
    areas = [width * height for width, height in spans]
    aspects = [width / height for width, height in spans]
    mirrored = sum(v[0, 0, -1] < v[0, 0, 0] for v in views)

    assert 0.45 < min(areas) < 0.6 and 0.9 < max(areas) < 1.05
    assert 0.7 < min(aspects) < 0.85 and 1.2 < max(aspects) < 1.4
    assert 35 <= mirrored <= 65
    for number in range(1, 101):
        view = crop(number, flip=False)
        assert view[0, 0, -1] > view[0, 0, 0] and view.dtype == np.uint8


def test_a_view_depends_on_the_item_and_the_number_alone() -> None:
    np.testing.assert_array_equal(crop(3, flip=True), crop(3, flip=True))
    assert (crop(3, flip=True) != crop(4, flip=True)).any()
    other = RAMPS[::-1].copy()
    swapped = crop_view(other, view_rng(item_key(other), 3), flip=True, resample="bilinear")
    assert (swapped[::-1] != crop(3, flip=True)).any()  # another rectangle


def test_the_frames_of_a_clip_are_cropped_alike() -> None:
    clip = np.stack([np.stack([RAMPS[0], RAMPS[1], RAMPS[0]])] * 4)
    decoder = get_decoder("video")
    reading = decoder.Options(side=SIDE, frames=4)

    view = decoder.view(clip, reading, view_rng(item_key(clip), 1), flip=True)

    assert view.shape == clip.shape
    for frame in view[1:]:
        np.testing.assert_array_equal(frame, view[0])
    assert (view[0] != clip[0]).any()


def test_a_sound_changes_within_bounds_and_silence_stays() -> None:
    wave = np.zeros(16_000, np.float32)
    wave[2_000:10_000] = 0.6 * np.sin(np.arange(8_000) * 0.3)
    lengths, volumes, starts = [], [], []
    for number in range(1, 41):
        view = wave_view(wave, view_rng(item_key(wave), number))
        there = np.flatnonzero(view)
        assert view.dtype == np.float32 and view.shape == wave.shape and abs(view).max() <= 1.0
        lengths.append(int(there[-1] - there[0]))
        volumes.append(float(np.sqrt(np.mean(view[there[0] : there[-1]] ** 2))))
        starts.append(int(there[0]))
        np.testing.assert_array_equal(view, wave_view(wave, view_rng(item_key(wave), number)))

    assert 8_000 / 1.1 - 3 <= min(lengths) < 7_700 and 8_300 < max(lengths) <= 8_000 / 0.9
    root = 0.6 / np.sqrt(2)
    assert 0.5 * root * 0.98 <= min(volumes) < 0.7 * root < 1.3 * root < max(volumes)
    assert 390 <= min(starts) < 1_000 and 3_000 < max(starts) <= 3_610
    silent = np.zeros(100, np.float32)
    np.testing.assert_array_equal(wave_view(silent, view_rng(item_key(silent), 1)), silent)


def test_a_sound_that_fills_the_wave_keeps_its_length() -> None:
    wave = np.sin(np.arange(4_000) * 0.2).astype(np.float32)
    for number in range(1, 21):
        view = wave_view(wave, view_rng(item_key(wave), number))
        assert sound_length(view, 1) >= 4_000 / 1.1 - 3


def test_a_folder_has_views_next_to_its_items(tmp_path: Path) -> None:
    folder, graph = write_pictures(tmp_path / "pictures", n_each=3), write_colours(tmp_path)
    plain = open_data(options(folder, graph), tmp_path / "data")
    viewed = open_data(options(folder, graph, views=4, storage="float16"), tmp_path / "data")

    one, several = plain.prepare(), viewed.prepare()

    assert one is not None and several is not None
    views = np.array(several.load_views("image"))
    assert views.shape == (36, 3, 12) and views.dtype == np.float16
    assert one.load_views("image") is None
    assert "views" not in json.loads((one.path / "index.json").read_text())
    np.testing.assert_array_equal(several.load("image"), one.load("image").astype(np.float16))
    assert len({row.tobytes() for row in views.reshape(-1, 12)}) == views.shape[0] * 3
    viewed.verify()
    assert viewed.summarise().facts["views of image"] == "4"
    other = open_data(options(folder, graph, views=3, storage="float16"), tmp_path / "data")
    fewer = other.prepare()
    assert fewer is not None and other.digest() != viewed.digest()
    np.testing.assert_array_equal(fewer.load_views("image"), views[:, :2])
    path = several.path / "image.views.npy"
    path.write_bytes(path.read_bytes()[:-1])
    rebuilt = viewed.prepare()
    assert rebuilt is not None
    np.testing.assert_array_equal(rebuilt.load_views("image"), views)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("image", {"views": 0}, r"views=0; expected 1 \(only the item itself\) to 100"),
        ("image", {"views": 2, "encoder": ""}, "views=2; expected an encoder to go with it"),
        ("image", {"flip": True}, "flip=True; expected views of 2 or more with it"),
        ("text", {"views": 2, "encoder": "package:wordllama"}, "kind 'text' has no augmented"),
        (
            "audio",
            {"views": 2, "flip": True, "encoder": "package:speech-embedding"},
            "the views of sounds are not mirrored",
        ),
    ],
)
def test_wrong_choices_are_refused_in_one_line(
    kind: str, values: dict[str, Any], message: str
) -> None:
    own = {"encoder": "package:efficientnet-lite0", **values}

    with pytest.raises(ConfigError, match=message) as caught:
        check_encoder(kind, parse_options(get_decoder(kind).Options, own, where=kind))

    assert "\n" not in str(caught.value)
