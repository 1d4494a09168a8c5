"""Every layout is recognised and read: which items, classes, splits and modalities it has."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from metafleet.data.importing.item import Reading
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from tests.unit.data.importing.conftest import Examine
from tests.unit.data.importing.folders import (
    CLASSES,
    class_folders,
    clip,
    drawing,
    huggingface,
    metadata,
    picture,
    sentence,
    shard,
    sound,
    webdataset,
    write,
)


def read(path: Path, **options: object) -> Reading:
    reading = read_items(path, FolderOptions(path=str(path), **options))  # type: ignore[arg-type]
    assert not reading.problems
    return reading


def splits(reading: Reading) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in reading.items:
        found.setdefault(item.split, set()).add(item.label)
    return found


def test_files_of_one_stem_in_a_folder_of_a_class_are_one_item(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, items=3)
    write(folder, {"README.md": "about", ".hidden/x.png": b"", "kind00/2.txt": "words"})

    reading = read(folder)

    assert reading.layout == "class_folders"
    assert dict(reading.kinds) == {"image": "image", "audio": "audio", "text": "text"}
    assert {item.label for item in reading.items} == set(CLASSES)
    first = [item for item in reading.items if item.label == "kind00"]
    assert [set(item.parts) for item in first] == [
        {"image", "audio"},
        {"image", "audio"},
        {"image", "text"},
    ]
    assert any("README.md" in note for note in reading.notes)


def test_two_pictures_of_one_stem_are_two_items(tmp_path: Path) -> None:
    write(tmp_path, {"cat/1.png": picture(1), "cat/1.jpg": picture(2)})

    assert len(read(tmp_path).items) == 2


def test_all_that_lies_below_the_folder_of_a_class_is_of_the_class(tmp_path: Path) -> None:
    write(tmp_path, {"cat/monday/1.png": picture(1), "cat/tuesday/1.png": picture(2)})

    assert [item.label for item in read(tmp_path).items] == ["cat", "cat"]


def test_folders_of_splits_give_their_classes_the_split(tmp_path: Path) -> None:
    for split, classes in (("train", "ab"), ("val", "cd"), ("test", "ef")):
        class_folders(tmp_path, classes=list(classes), prefix=f"{split}/")

    reading = read(tmp_path)

    assert reading.layout == "split_folders"
    assert splits(reading) == {META_TRAIN: {*"ab"}, META_VAL: {*"cd"}, META_TEST: {*"ef"}}


def test_a_row_may_have_a_picture_a_sound_and_a_sentence(tmp_path: Path) -> None:
    reading = read(huggingface(tmp_path))

    assert reading.layout == "huggingface"
    assert dict(reading.kinds) == {"image": "image", "audio": "audio", "text": "text"}
    item = reading.items[5]
    assert item.where == "metadata.jsonl:6" and item.label == "kind01"
    assert item.parts["image"].read() == picture(12)
    assert item.parts["audio"].read() == sound(12)
    assert item.parts["text"].read().decode() == sentence(12)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_of_every_format_say_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [
        {
            "photo": f"{n}.png",
            "remark": f'"{n}", naïve\nsecond line',
            "species": f"s{n}",
            "split": s,
        }
        for n, s in enumerate(("train", "dev", "test"))
    ]
    write(tmp_path, {f"{n}.png": picture(n) for n in range(3)})
    path = tmp_path / f"pets.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        metadata(tmp_path, rows, path.name)
    else:
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0], delimiter="\t" if suffix == "tsv" else ";")
            writer.writeheader()
            writer.writerows(rows)

    reading = read(tmp_path, label="species", columns={"image": "photo", "text": "remark"})

    assert reading.layout == "manifest"
    assert splits(reading) == {META_TRAIN: {"s0"}, META_VAL: {"s1"}, META_TEST: {"s2"}}
    assert reading.items[1].parts["text"].read().decode() == '"1", naïve\nsecond line'
    assert reading.items[1].parts["image"].read() == picture(1)


def test_files_within_a_parquet_file_are_read_from_it(tmp_path: Path) -> None:
    rows = [
        {
            "image": {"bytes": picture(n), "path": None},
            "audio": {"bytes": sound(n), "path": f"{n}.wav"} if n else None,
            "label": n,
        }
        for n in range(3)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")

    reading = read(tmp_path)

    assert dict(reading.kinds) == {"image": "image", "audio": "audio"}
    assert [set(item.parts) for item in reading.items] == [
        {"image"},
        {"image", "audio"},
        {"image", "audio"},
    ]
    assert reading.items[2].parts["image"].read() == picture(2)
    assert reading.items[2].parts["audio"].read() == sound(2)
    assert [item.label for item in reading.items] == ["0", "1", "2"]


def test_one_manifest_of_several_is_read_when_it_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, {f"{name}.csv": f"text,label\nthis is {name},x\n"})

    reading = read(tmp_path / "b.csv")

    assert reading.items[0].parts["text"].read() == b"this is b"


def test_two_columns_of_pictures_keep_their_names_and_a_lone_one_is_called_image(
    tmp_path: Path,
) -> None:
    write(tmp_path, {f"{n}.png": picture(n) for n in range(4)})
    two = metadata(
        tmp_path, [{"front_file_name": "0.png", "Back Side_file_name": "1.png", "label": "a"}]
    )
    kinds = dict(read(two).kinds)
    one = metadata(tmp_path, [{"front_file_name": "0.png", "label": "a"}])

    assert kinds == {"front": "image", "back_side": "image"}
    assert dict(read(one).kinds) == {"image": "image"}


def test_columns_of_numbers_are_a_row_of_a_table(tmp_path: Path) -> None:
    write(tmp_path, {"iris.csv": "a,b,c,class\n1,2.5,-3,x\n4,5,1e3,y\n,,,z\n"})
    options = {"columns": {"table": "a,c"}}

    reading = read_items(tmp_path, FolderOptions(**options))  # type: ignore[arg-type]

    assert dict(reading.kinds) == {"table": "table"}
    assert [item.parts["table"].read() for item in reading.items] == [b"1.0,-3.0", b"4.0,1000.0"]
    assert [problem.kind for problem in reading.problems] == ["empty-item"]  # the row of z
    assert any("'b'" in note for note in reading.notes)  # it says what it does not use


def test_two_tables_have_widths_of_their_own(tmp_path: Path, examine: Examine) -> None:
    lines = [f"1,2,3,4,{n},{label}" for n, label in enumerate(2 * CLASSES)]
    folder = write(tmp_path / "folder", {"t.csv": "\n".join(["h,w,r,g,b,label", *lines])})

    found = examine(folder, columns={"size": "h,w", "colour": "r,g,b"})

    assert not found.problems
    shapes = {name: array.shape for name, array in found.decoded.arrays.items()}
    assert shapes == {"colour": (24, 3), "size": (24, 2)}


def test_lines_that_are_not_utf8_are_found_beside_texts_of_several_lines(tmp_path: Path) -> None:
    table = b'\n\ntext,label\n"x\ry",a\n\xfc,b\nlast,c\n'
    folder = write(tmp_path / "folder", {"t.csv": table})

    found = read_items(folder, FolderOptions())

    assert [item.where for item in found.items] == ["t.csv:4", "t.csv:7"]
    assert [problem.where for problem in found.problems] == ["t.csv:6"]


def test_a_file_may_be_named_by_the_path_of_a_table_without_bytes(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"a.png": picture(1)})
    metadata(folder, [{"image": {"path": "a.png", "bytes": None}, "text": "x", "label": "a"}])

    (item,) = read_items(folder, FolderOptions(columns={"image": "image", "text": "text"})).items

    assert set(item.parts) == {"image", "text"}


def test_times_of_nanoseconds_are_in_nobodys_way(tmp_path: Path) -> None:
    times = pyarrow.array([1, None], pyarrow.timestamp("ns"))
    table = pyarrow.table({"text": ["x", "y"], "label": ["a", "b"], "when": times})
    (tmp_path / "folder").mkdir()
    parquet.write_table(table, tmp_path / "folder/t.parquet")

    found = read_items(tmp_path / "folder", FolderOptions())

    assert not found.problems
    assert [item.label for item in found.items] == ["a", "b"]


def test_texts_of_a_parquet_file_that_are_not_utf8_are_one_line(tmp_path: Path) -> None:
    offsets = pyarrow.py_buffer(np.array([0, 1, 2], np.int32))
    broken = pyarrow.Array.from_buffers(
        pyarrow.string(), 2, [None, offsets, pyarrow.py_buffer(b"\xff\xfe")]
    )
    (tmp_path / "folder").mkdir()
    table = pyarrow.table({"text": broken, "label": ["a", "b"]})
    parquet.write_table(table, tmp_path / "folder/t.parquet")

    (problem,) = read_items(tmp_path / "folder", FolderOptions()).problems

    assert (problem.kind, problem.is_fatal) == ("unreadable-file", True)


def test_moving_pictures_are_clips_and_drawings_are_strokes(tmp_path: Path) -> None:
    write(tmp_path, {"cat/1.gif": clip(1), "cat/2.json": drawing(1), "cat/3.png": picture(1)})

    reading = read(tmp_path)

    assert dict(reading.kinds) == {"image": "image", "video": "video", "stroke": "stroke"}


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
    """torchmeta's Omniglot: one file, labels that are paths, Vinyals' split beside the other."""
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


def test_an_hdf5_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, {"train_labels.json": '["a"]'})
    for value in (1, 9):
        with h5py.File(tmp_path / "new", "w") as store:
            store["a"] = np.full((1, 2, 2), value, np.uint8)
        (tmp_path / "new").replace(tmp_path / "data.hdf5")

        assert read(tmp_path).items[0].parts["image"].read()[-1] == value


def test_items_to_predict_need_no_class(tmp_path: Path) -> None:
    write(tmp_path, {"1.png": picture(1), "1.wav": sound(1), "2.png": picture(2)})
    ask = FolderOptions(path=str(tmp_path))

    reading = read_items(tmp_path, ask, is_labelled=False)

    assert [(item.label, set(item.parts)) for item in reading.items] == [
        ("", {"image", "audio"}),
        ("", {"image"}),
    ]


def test_an_empty_class_of_an_item_to_predict_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"t.csv": "text,label\nhello,\nbye,cat\n"})

    found = read_items(folder, FolderOptions(), is_labelled=False)

    assert not found.problems
    assert [item.label for item in found.items] == ["", "cat"]


def test_a_file_that_changes_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = class_folders(tmp_path)
    before = read(folder).fingerprint

    assert read(folder).fingerprint == before
    write(folder, {"kind03/1.png": picture(999)})
    assert read(folder).fingerprint != before
