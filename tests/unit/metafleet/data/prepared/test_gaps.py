"""Prepared data of many kinds with gaps, from content to episodes."""

import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import (
    ClassInfo,
    PreparedData,
    find_by_recipe,
    find_prepared,
    folder_of,
    index_checksum,
)
from metafleet.data.prepared.preparing import Content, find_or_decode, find_or_prepare
from metafleet.episode import EpisodeShape
from metafleet.errors import DataCorruptError, DataError
from metafleet.locking import exclusive
from metafleet.seeds import CounterRng

RNG = np.random.default_rng(3)
HAS_SOUND = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1], np.bool_)
HAS_TEXT = np.array([1, 0, 1, 1, 1, 1, 1, 1, 0], np.bool_)


def make_content(**changes) -> Content:
    sounds = RNG.random((9, 3, 5)).astype(np.float16)
    texts = RNG.integers(1, 256, (9, 7), dtype=np.uint8)
    sounds[~HAS_SOUND] = 0
    texts[~HAS_TEXT] = 0
    content = Content(
        classes=[ClassInfo("a", "x", 4), ClassInfo("b", "x", 5)],
        arrays={
            "photo": RNG.integers(0, 256, (9, 3, 4, 4), dtype=np.uint8),
            "clip": RNG.integers(0, 256, (9, 2, 3, 4, 4), dtype=np.uint8),
            "word": sounds,
            "text": texts,
        },
        present={},
        facts={},
        masks={"word": HAS_SOUND, "text": HAS_TEXT, "photo": np.ones(9, np.bool_)},
        kinds={"photo": "image", "clip": "video", "word": "audio"},
        splits={"meta_train": ["b", "a"]},
        recipe={"version": 1, "sizes": (3, 5)},
    )
    return replace(content, **changes)


@pytest.fixture
def content() -> Content:
    return make_content()


@pytest.fixture
def prepared(tmp_path, content) -> PreparedData:
    return find_or_prepare(tmp_path / "prepared" / "many-0", lambda: content)


def episode(prepared: PreparedData, *modalities: str, shape=None):
    source = ClassData("many", prepared, {"meta_train": ["a", "b"]}, modalities).open_source()
    shape = shape or EpisodeShape(2, 1, 1)
    source.check("meta_train", shape)
    return source, source.sample("meta_train", shape, CounterRng(1, "meta_train"))


def test_kinds_masks_splits_and_recipe_come_back(prepared):
    found = find_prepared(prepared.path)

    assert found == prepared
    assert {m: info.kind for m, info in found.arrays.items()} == {
        "photo": "image",
        "clip": "video",
        "word": "audio",
        "text": "text",
    }
    assert {m: info.n_present for m, info in found.arrays.items()} == {
        "photo": 9,
        "clip": 9,
        "word": 6,
        "text": 7,
    }
    assert set(found.masks) == {"word", "text"}
    np.testing.assert_array_equal(found.load_mask("word"), HAS_SOUND)
    assert found.load_mask("photo") is None
    assert found.splits == {"meta_train": ("b", "a")}


def test_models_get_pixels_as_shares_and_the_rest_as_it_is(prepared, content):
    source, drawn = episode(prepared, "photo", "clip", "word", "text")
    support = drawn.support.inputs

    assert source.modalities == {
        "photo": (3, 4, 4),
        "clip": (2, 3, 4, 4),
        "word": (3, 5),
        "text": (7,),
    }
    assert all(values.dtype == torch.float32 for values in support.values())
    for row in range(2):
        same = (content.arrays["photo"] / np.float32(255) == support["photo"][row].numpy()).all(
            axis=(1, 2, 3)
        )
        item = int(np.flatnonzero(same)[0])
        np.testing.assert_array_equal(support["text"][row], content.arrays["text"][item])
        np.testing.assert_array_equal(support["word"][row], content.arrays["word"][item])
        np.testing.assert_array_equal(
            support["clip"][row], content.arrays["clip"][item] / np.float32(255)
        )
        assert support["word.present"][row] == HAS_SOUND[item]


def test_items_with_nothing_to_show_are_never_drawn(prepared):
    shape = EpisodeShape(2, 1, 2)
    source, drawn = episode(prepared, "word", "text", shape=shape)

    assert [rows.count for rows in source._classes("meta_train")] == [3, 5]
    for part in (drawn.support, drawn.query):
        either = part.inputs["word.present"] + part.inputs["text.present"]
        assert (either > 0).all()
        assert (part.inputs["word"][part.inputs["word.present"] == 0] == 0).all()
    alone, drawn = episode(prepared, "word", shape=EpisodeShape(2, 1, 1))
    assert [rows.count for rows in alone._classes("meta_train")] == [3, 3]
    assert list(drawn.support.inputs) == ["word"] and drawn.support.inputs["word"].any()


def test_the_digest_tells_masks_apart(tmp_path, content):
    digests = set()
    for number, mask in enumerate((HAS_TEXT, np.roll(HAS_TEXT, 1), np.ones(9, np.bool_))):
        other = replace(content, masks={"text": mask})
        data = find_or_prepare(tmp_path / f"many-{number}", lambda other=other: other)
        digests.add(ClassData("many", data, {}, ("text",)).digest())

    assert len(digests) == 3


def test_chosen_rows_are_kept_in_their_order(tmp_path, content):
    rows = np.array([8, 0, 3, 1])
    classes = [ClassInfo("a", "x", 1), ClassInfo("b", "x", 3)]
    chosen = replace(content, classes=classes, rows=rows)

    prepared = find_or_prepare(tmp_path / "many-1", lambda: chosen)

    prepared.verify()
    np.testing.assert_array_equal(prepared.load("photo"), content.arrays["photo"][rows])
    np.testing.assert_array_equal(prepared.load_mask("word"), HAS_SOUND[rows])
    assert prepared.arrays["word"].n_present == 3


def test_absent_items_take_no_room(tmp_path):
    content = Content(
        classes=[ClassInfo("a", "x", 2000)],
        arrays={"clip": np.zeros((2000, 64, 1024), np.uint8)},
        present={},
        facts={},
        masks={"clip": np.zeros(2000, np.bool_)},
    )

    prepared = find_or_prepare(tmp_path / "clips", lambda: content)

    prepared.verify()
    path = prepared.path / "clip.npy"
    assert path.stat().st_size > 100 << 20 > 20 * 512 * path.stat().st_blocks


def test_zeros_with_a_sign_are_written_as_they_are(tmp_path):
    values = np.array([[0.0], [-0.0]], np.float32)
    content = Content([ClassInfo("a", "g", 2)], {"table": values}, {}, {})

    prepared = find_or_prepare(tmp_path / "signs", lambda: content)

    prepared.verify()
    assert np.signbit(prepared.load("table")).ravel().tolist() == [False, True]


def test_of_what_was_prepared_from_several_originals_the_newest_is_found(tmp_path):
    folders = sorted(folder_of(tmp_path, "many", {"v": 1, "source": n}) for n in range(4))
    for number, folder in enumerate(folders):
        content = Content([ClassInfo("a", "g", 1)], {"x": np.ones((1, 1))}, {}, {}, recipe={"v": 1})
        find_or_prepare(folder, lambda content=content: content)
        os.utime(folder, ns=(0, 10**18 + number % 3))

    assert find_by_recipe(tmp_path, "many", {"v": 1}).path == folders[2]


def test_prepared_data_are_found_by_their_recipe(tmp_path, prepared, content):
    assert find_by_recipe(tmp_path, "many", content.recipe) == prepared
    assert find_by_recipe(tmp_path, "many", {"version": 2}) is None
    assert find_by_recipe(tmp_path, "man", content.recipe) is None

    (prepared.path / "word.present.npy").unlink()
    assert find_by_recipe(tmp_path, "many", content.recipe) is None
    with pytest.raises(DataCorruptError, match=r"word\.present\.npy"):
        find_prepared(prepared.path)


def test_a_folder_of_an_earlier_version_opens(prepared):
    path = prepared.path / "index.json"
    index = json.loads(path.read_text())
    for key in ("checksum", "masks", "splits", "recipe"):
        del index[key]
    for info in index["arrays"].values():
        del info["kind"]
    path.write_text(json.dumps(index | {"checksum": index_checksum(index)}))

    found = find_prepared(prepared.path)

    assert found.arrays["text"].kind == "text" and not found.masks
    np.testing.assert_array_equal(found.load_mask("word"), HAS_SOUND)  # by its zeros


def test_scratch_and_what_the_killed_left_behind_are_cleared(tmp_path, content):
    folder = tmp_path / "many-2"
    old, young = tmp_path / ".many-2.old", tmp_path / ".many-2.young"
    for path in (old, young):
        path.mkdir()
    long_ago = time.time() - 100_000
    os.utime(old, (long_ago, long_ago))

    def make(scratch):
        (scratch / "large").write_bytes(b"x")
        return content

    find_or_decode(folder, make)

    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".many-2.lock",
        ".many-2.young",
        "many-2",
    ]


def test_leftovers_of_killed_processes_are_cleared_unless_in_use(tmp_path, content):
    left = {name: tmp_path / f".{name}.abc_d123" for name in ("free-1", "held-2", "unlocked-3")}
    left["young-4"] = tmp_path / ".young-4.abc_d123"
    long_ago = time.time() - 100_000
    for name, path in left.items():
        path.mkdir()
        if name != "unlocked-3":
            (tmp_path / f".{name}.lock").touch()
        if name != "young-4":
            os.utime(path, (long_ago, long_ago))

    with exclusive(tmp_path / ".held-2.lock"):
        find_or_prepare(tmp_path / "many-5", lambda: content)

    assert {name for name, path in left.items() if path.exists()} == {
        "held-2",
        "unlocked-3",
        "young-4",
    }
    assert (tmp_path / "many-5").is_dir()


def test_a_modality_that_cannot_be_a_file_is_refused(tmp_path, content):
    bad = replace(content, arrays={"../photo": content.arrays["photo"]}, masks={})

    with pytest.raises(DataError, match=r"modality '\.\./photo' cannot be a file's name"):
        find_or_prepare(tmp_path / "many-3", lambda: bad)
    assert [p.name for p in tmp_path.iterdir()] == [".many-3.lock"]
