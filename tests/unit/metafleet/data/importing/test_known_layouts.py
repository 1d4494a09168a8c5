"""Layouts of other libraries are recognised and read."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from tests.folders import picture, shard, sound, webdataset, write
from tests.unit.metafleet.data.importing.reading import read, splits


def test_libfewshot_finds_its_files_in_images(tmp_path: Path) -> None:
    for split, label in (("train", "a"), ("val", "b"), ("test", "c")):
        write(
            tmp_path,
            {
                f"images/{label}.png": picture(1),
                f"{split}.csv": f"filename,label\n{label}.png,{label}\n",
            },
        )

    reading = read(tmp_path)

    assert reading.layout == "libfewshot"
    assert splits(reading) == {META_TRAIN: {"a"}, META_VAL: {"b"}, META_TEST: {"c"}}


def test_easy_few_shot_finds_roots_that_were_relative_to_elsewhere(tmp_path: Path) -> None:
    for split, label in (("train", "a"), ("test", "b")):
        write(tmp_path, {f"images/001.{label}/x.jpg": picture(1)})
        content = {"class_names": [label], "class_roots": [f"./data/CUB/images/001.{label}"]}
        write(tmp_path, {f"{split}.json": json.dumps(content)})

    reading = read(tmp_path)

    assert reading.layout == "easy_few_shot"
    assert splits(reading) == {META_TRAIN: {"a"}, META_TEST: {"b"}}


def test_the_members_of_one_key_are_one_item(tmp_path: Path) -> None:
    reading = read(webdataset(tmp_path))

    assert reading.layout == "webdataset"
    assert len(reading.items) == 2 * 12 * 2
    item = reading.items[30]
    assert (item.where, item.label) == ("data-001.tar/s1-3-0", "kind03")
    assert item.parts["image"].read() == picture(130)
    assert item.parts["audio"].read() == sound(130)


def test_the_key_of_a_member_ends_at_the_first_dot_and_json_may_say_the_class(
    tmp_path: Path,
) -> None:
    about = json.dumps({"label": 7, "split": "test"}).encode()
    shard(
        tmp_path / "train-0.tar",
        [
            ("a/b.front.png", picture(1)),
            ("a/b.back.png", picture(2)),
            ("a/b.json", about),
            ("a/c.front.png", picture(3)),
            ("a/c.cls", b"8"),
        ],
    )

    reading = read(tmp_path)

    assert [(i.label, i.split, set(i.parts)) for i in reading.items] == [
        ("7", META_TEST, {"front", "back"}),
        ("8", META_TRAIN, {"front"}),
    ]


@pytest.mark.parametrize("root", ["", "omniglot-py/"])
def test_omniglot_as_torchvision_has_it(tmp_path: Path, root: str) -> None:
    for part in ("images_background", "images_evaluation"):
        write(tmp_path, {f"{root}{part}/Latin/character01/0001_01.png": picture(1)})

    reading = read_items(tmp_path, FolderOptions())

    assert reading.layout == "omniglot"
    assert splits(reading) == {
        META_TRAIN: {"Latin/character01"},
        META_TEST: {"Latin/character01"},
    }
    assert {item.group for item in reading.items} == {"Latin"}


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def grey_paths(folder: Path) -> np.ndarray:
    """torchmeta's Omniglot: one file, labels that are paths, Vinyals' split and the other."""
    images = pixels(20, 105, 105)
    with h5py.File(folder / "data.hdf5", "w") as store:
        for number in range(3):
            name = f"images_background/Latin/character{number:02d}"
            store.create_dataset(name, data=images)
    labels = [["images_background", "Latin", f"character{number:02d}"] for number in range(3)]
    write(folder, {"train_labels.json": json.dumps(labels)})
    for split, label in zip(("train", "val", "test"), labels, strict=True):
        write(folder, {f"vinyals_{split}_labels.json": json.dumps([label])})
    return images[0]


def colour_names(folder: Path) -> np.ndarray:
    """torchmeta's mini-ImageNet: a file for each split, labels that are names."""
    images = pixels(20, 84, 84, 3)
    for split in ("train", "val", "test"):
        with h5py.File(folder / f"{split}_data.hdf5", "w") as store:
            store.create_group("datasets").create_dataset(f"n{split}", data=images)
        write(folder, {f"{split}_labels.json": json.dumps([f"n{split}"])})
    return images[0]


def encoded(folder: Path) -> np.ndarray:
    """torchmeta's CUB: image files as bytes."""
    content = [picture(number) for number in range(20)]
    for split in ("train", "val", "test"):
        with h5py.File(folder / f"{split}_data.hdf5", "w") as store:
            kind = h5py.special_dtype(vlen=np.uint8)
            data = store.create_group("datasets").create_dataset(f"n{split}", (20,), dtype=kind)
            for row, one in enumerate(content):
                data[row] = np.frombuffer(one, np.uint8)
        write(folder, {f"{split}_labels.json": json.dumps([f"n{split}"])})
    return np.asarray(Image.open(io.BytesIO(content[0])))


@pytest.mark.parametrize("build", [grey_paths, colour_names, encoded])
def test_torchmeta_files_give_pixels_and_splits(
    tmp_path: Path, build: Callable[[Path], np.ndarray]
) -> None:
    first = build(tmp_path)

    reading = read(tmp_path)

    assert reading.layout == "torchmeta"
    assert {split: len(names) for split, names in splits(reading).items()} == {
        META_TRAIN: 1,
        META_VAL: 1,
        META_TEST: 1,
    }
    assert len(reading.items) == 60
    with Image.open(io.BytesIO(reading.items[0].parts["image"].read())) as image:
        assert np.array_equal(np.asarray(image), first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (2, 60_000, 60_000), "chunks": (1, 600, 600)}, "pixels each"),
        ({"shape": (3_000_000, 4, 4), "chunks": (1000, 4, 4)}, "more than a file of"),
        ({"shape": (2, 0, 4)}, "pixels each"),
        ({"data": ["7", "8"], "dtype": h5py.string_dtype()}, "expected uint8"),
        ({"data": h5py.SoftLink("/nowhere")}, "is not there"),
    ],
    ids=["pixels", "rows", "nothing", "texts", "link"],
)
def test_an_hdf5_file_is_not_believed(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with h5py.File(tmp_path / "data.hdf5", "w") as store:
        store["b"] = pixels(3, 4, 4)
        if isinstance(options.get("data"), h5py.SoftLink):
            store["a"] = options["data"]
        else:
            store.create_dataset("a", **{"dtype": np.uint8} | options)
    write(tmp_path, {"train_labels.json": '["a", "b", "b"]'})

    found = read_items(tmp_path, FolderOptions())

    (problem,) = found.problems
    assert (problem.where, message in problem.message) == ("data.hdf5/a", True)
    assert [item.label for item in found.items] == ["b"] * 3


def test_a_replaced_hdf5_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, {"train_labels.json": '["a"]'})
    for value in (1, 9):
        with h5py.File(tmp_path / "new", "w") as store:
            store["a"] = np.full((1, 2, 2), value, np.uint8)
        (tmp_path / "new").replace(tmp_path / "data.hdf5")

        assert read(tmp_path).items[0].parts["image"].read()[-1] == value
