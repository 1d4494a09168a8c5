"""Broken data of every kind: each gives its message and its place, all at once."""

from pathlib import Path

import pytest

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import KINDS
from metafleet.data.importing.reading import read_items
from tests.folders import class_folders, huggingface, picture, write
from tests.unit.metafleet.data.importing.broken_data import BROKEN, KIND0
from tests.unit.metafleet.data.importing.broken_folders import rows
from tests.unit.metafleet.data.importing.conftest import Check
from tests.unit.metafleet.data.importing.reading import read


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_named_with_their_place(name: str, tmp_path: Path, check: Check) -> None:
    broken = BROKEN[name]
    folder = tmp_path / "folder"
    folder.mkdir()

    found = check(broken.build(folder), **broken.options)

    matching = [p for p in found.problems if p.kind == broken.kind]
    assert matching, found.problems
    assert broken.where in matching[0].where
    assert broken.message in matching[0].message
    assert all("\n" not in str(problem) for problem in found.problems)
    assert not found.is_usable(skip_bad=False)


def test_these_are_most_kinds_of_problems_and_at_least_25_kinds_of_broken_data() -> None:
    tried = {broken.kind for broken in BROKEN.values()}

    assert len(BROKEN) >= 25
    # everything is installed here, and no model needs anything
    assert set(KINDS) - tried == {"missing-package", "missing-modality"}


def test_all_problems_are_found_at_once(tmp_path: Path, check: Check) -> None:
    folder = rows(
        {"file_name": "p/no.png", "label": "a"},
        {"file_name": "../x.png", "label": "a"},
        {"file_name": "p/1-1.png", "label": ""},
        {"file_name": "p/bad.png", "label": KIND0},
    )(tmp_path / "folder")
    write(folder, {"p/bad.png": b"hello"})

    found = check(folder)

    assert [(p.kind, p.where) for p in found.problems] == [
        ("missing-file", "metadata.jsonl:25"),
        ("outside-folder", "metadata.jsonl:26"),
        ("empty-label", "metadata.jsonl:27"),
        ("bad-image", "metadata.jsonl:28"),
    ]


def test_broken_items_can_be_left_out(tmp_path: Path, check: Check) -> None:
    folder = huggingface(tmp_path / "folder")
    whole = check(folder, split_seed=2)
    write(folder, {"p/10.png": b"hello", "s/21.wav": b"hello"})

    found = check(folder, split_seed=2)

    assert [p.kind for p in found.problems] == ["bad-image", "bad-audio"]
    assert found.is_usable(skip_bad=True) and not found.is_usable(skip_bad=False)
    gone = {item.where for item in whole.items} - {item.where for item in found.items}
    assert gone == {"metadata.jsonl:4", "metadata.jsonl:8"}
    assert found.rows is not None
    assert len(found.rows) == len(found.items) == len(whole.items) - 2


def test_a_message_names_its_file_once_and_no_object_of_ours(tmp_path: Path, check: Check) -> None:
    folder = class_folders(tmp_path / "folder")
    write(folder, {"kind00/x.png": b"", "kind01/0.wav": b"RIFFnothing else"})

    empty, damaged = (str(problem) for problem in check(folder).problems)

    assert empty == "kind00/x.png: has 0 bytes; get or delete it [empty-file]"
    assert damaged == (
        "kind01/0.png: kind01/0.wav: the sound cannot be read: Format not recognised [bad-audio]"
    )


def test_folders_within_those_of_classes_are_reported(tmp_path: Path) -> None:
    write(tmp_path, {"cats/tabby/1.png": picture(1), "cats/2.png": picture(2)})

    (note,) = [note for note in read(tmp_path).notes if "within" in note]

    assert "1 items, such as cats/tabby/1.png, which is of class 'cats'" in note


def test_a_table_without_files_says_what_a_column_of_files_is(tmp_path: Path) -> None:
    write(tmp_path, {"t.csv": "number,label\n1,a\n"})

    (problem,) = read_items(tmp_path, FolderOptions()).problems

    assert problem.kind == "no-file-column"
    assert "none is called 'file_name' or 'text'" in problem.message
    assert "such as --column image=number, or --column table=number for" in problem.message
