"""Names of classes and files as file systems and people spell them."""

import os
from pathlib import Path
from unicodedata import normalize

from metafleet.data.importing.class_names import find_twins
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from tests.folders import CLASSES, class_folders, picture, write
from tests.unit.metafleet.data.importing.conftest import Check

CAFE = [normalize(form, "café") for form in ("NFC", "NFD")]


def test_a_class_spelled_in_two_ways_is_one_class_of_one_split(
    tmp_path: Path, check: Check
) -> None:
    folder = class_folders(tmp_path / "folder", classes=[*CLASSES, *CAFE], items=2)

    found = check(folder)

    assert [item.label for item in found.items].count(CAFE[0]) == 4
    assert CAFE[1] not in found.splits


def test_a_class_spelled_in_two_ways_is_found_in_two_splits(tmp_path: Path, check: Check) -> None:
    folder = tmp_path / "folder"
    for split, spelling in (("train", CAFE[0]), ("test", CAFE[1])):
        names = [f"{split}{n}" for n in range(3)]
        class_folders(folder, classes=[*names, spelling], items=2, prefix=f"{split}/")

    found = check(folder)

    assert "label-in-two-splits" in [problem.kind for problem in found.problems]


def test_classes_that_differ_in_case_alone_are_reported(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder", classes=["Cat", "cat", "dog"])

    notes = read_items(folder, FolderOptions()).notes

    assert [note for note in notes if "'Cat' and 'cat' differ in case" in note]


def test_twins_are_found_once_each_with_the_first() -> None:
    assert find_twins(["a", "A", "b", "A", " a "]) == [("a", "A"), ("a", " a ")]


def test_joiners_are_part_of_a_name(tmp_path: Path) -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    folder = class_folders(tmp_path / "folder", classes=[persian, "b"])

    found = read_items(folder, FolderOptions())

    assert not found.problems
    assert {item.label for item in found.items} == {persian, "b"}


def test_a_file_whose_name_is_not_utf8_is_a_problem_that_can_be_printed(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder", classes=["a", "b"])
    write(folder, {"a/x.png": picture(9)})
    os.rename(folder / "a/x.png", os.fsencode(folder / "a") + b"/caf\xe9.png")

    (problem,) = read_items(folder, FolderOptions()).problems

    assert problem.kind == "not-utf8"
    assert r"caf\udce9.png" in problem.where
    assert str(problem).encode()


def test_the_name_of_a_file_cannot_begin_a_line_of_its_own(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder", classes=["a", "b"])
    write(folder, {"a/x\nall is well.png": b""})

    (problem,) = read_items(folder, FolderOptions()).problems

    assert "\n" not in str(problem) and r"x\nall is well" in str(problem)


def test_modalities_of_one_kind_are_in_the_order_of_their_names_however_they_were_given(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "folder", {"m.csv": "a,b,label\nx,y,z\n"})
    columns = {"front": "b", "back": "a"}

    for given in (columns, dict(reversed(columns.items()))):
        assert list(read_items(folder, FolderOptions(columns=given)).kinds) == ["back", "front"]
