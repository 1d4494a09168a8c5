"""Folders of classes: which items, classes, splits and modalities they have."""

from pathlib import Path

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from tests.folders import (
    CLASSES,
    class_folders,
    clip,
    drawing,
    picture,
    sound,
    write,
)
from tests.unit.metafleet.data.importing.reading import read, splits


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


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path, {"cat/1.png": picture(1), "train/1.png": picture(2), "bus/1.png": picture(3)})

    reading = read(tmp_path)

    assert reading.layout == "class_folders"
    assert {item.label for item in reading.items} == {"cat", "train", "bus"}


def test_moving_pictures_are_clips_and_drawings_are_strokes(tmp_path: Path) -> None:
    write(tmp_path, {"cat/1.gif": clip(1), "cat/2.json": drawing(1), "cat/3.png": picture(1)})

    reading = read(tmp_path)

    assert dict(reading.kinds) == {"image": "image", "video": "video", "stroke": "stroke"}


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
