"""Classes of which every item is refused while a folder is read are remembered, in every layout."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from tests.folders import picture, shard, write
from tests.unit.metafleet.data.importing.conftest import Check

PICTURES = {"a.png": picture(1), "b.png": picture(2)}


def _folders(folder: Path) -> None:
    write(folder, {"cat/a.png": picture(1), "owl/a.png": b"", "yak/a.xyz": b"?"})


def _split_folders(folder: Path) -> None:
    for split in ("train", "test"):
        _folders(folder / split)


def _manifest(folder: Path) -> None:
    rows = "a.png,cat\ngone.png,owl\nc.png,yak\n"
    write(folder, PICTURES | {"c.png": b"", "m.csv": f"file_name,label\n{rows}"})


def _webdataset(folder: Path) -> None:
    members = [("1.png", picture(1)), ("1.cls", b"cat"), ("2.xyz", b"?"), ("2.cls", b"owl")]
    shard(folder / "data-000.tar", [*members, ("3.xyz", b"?"), ("3.cls", b"yak")])


def _easy_few_shot(folder: Path) -> None:
    _folders(folder)
    names = ["cat", "owl", "yak"]
    write(folder, {"train.json": json.dumps({"class_names": names, "class_roots": names})})


@pytest.mark.parametrize(
    "make",
    [_folders, _split_folders, _manifest, _webdataset, _easy_few_shot],
    ids=lambda m: m.__name__,
)
def test_a_class_without_a_sound_item_is_lost(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)

    reading = read_items(tmp_path, FolderOptions())

    assert {item.label for item in reading.items} == {"cat"}
    assert sorted(reading.labels) == ["cat", "owl", "yak"]
    assert sorted(reading.lost_classes(reading.items)) == ["owl", "yak"]


def test_a_name_that_cannot_be_shown_is_told_as_such_alone(tmp_path: Path) -> None:
    write(tmp_path, PICTURES | {"m.csv": f"file_name,label\na.png,cat\nb.png,{'o' * 999}\n"})

    reading = read_items(tmp_path, FolderOptions())

    assert reading.labels == ("cat",)
    assert [problem.kind for problem in reading.problems] == ["bad-label"]


def test_an_import_says_which_classes_it_lost(tmp_path: Path, check: Check) -> None:
    for number in range(6):
        names = [f"kind{number}/{n}.png" for n in range(2)]
        write(tmp_path, {name: picture(10 * number + n) for n, name in enumerate(names)})
    write(tmp_path, {"owl/a.png": b"", "yak/a.png": b"no picture"})

    found = check(tmp_path, skip_bad=True)

    for name in ("owl", "yak"):
        assert f"class {name!r} is left out: none of its items can be used" in found.notes
