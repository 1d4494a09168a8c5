"""Clips and animations become frames."""

import struct

import numpy as np
import pytest

from metafleet.data.decoding import video
from tests.unit.metafleet.data.decoding.samples import (
    animation,
    clip,
    decode,
    display_matrix,
    patched,
    png,
)

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (48, 64, 3), np.uint8)


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
