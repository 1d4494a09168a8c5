"""Broken data of every kind: each gives its message and its place, all at once."""

from pathlib import Path

import pytest

from metafleet.data.importing.problems import KINDS
from tests.unit.data.importing.broken_data import BROKEN, KIND0
from tests.unit.data.importing.broken_folders import rows
from tests.unit.data.importing.conftest import Examine
from tests.unit.data.importing.folders import huggingface, write


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_named_with_their_place(
    name: str, tmp_path: Path, examine: Examine
) -> None:
    broken = BROKEN[name]
    folder = tmp_path / "folder"
    folder.mkdir()

    found = examine(broken.build(folder), **broken.options)

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


def test_all_problems_are_found_at_once(tmp_path: Path, examine: Examine) -> None:
    folder = rows(
        {"file_name": "p/no.png", "label": "a"},
        {"file_name": "../x.png", "label": "a"},
        {"file_name": "p/1-1.png", "label": ""},
        {"file_name": "p/bad.png", "label": KIND0},
    )(tmp_path / "folder")
    write(folder, {"p/bad.png": b"hello"})

    found = examine(folder)

    assert [(p.kind, p.where) for p in found.problems] == [
        ("missing-file", "metadata.jsonl:25"),
        ("outside-folder", "metadata.jsonl:26"),
        ("empty-label", "metadata.jsonl:27"),
        ("bad-image", "metadata.jsonl:28"),
    ]


def test_what_is_broken_can_be_left_out(tmp_path: Path, examine: Examine) -> None:
    folder = huggingface(tmp_path / "folder")
    whole = examine(folder, split_seed=2)
    write(folder, {"p/10.png": b"hello", "s/21.wav": b"hello"})

    found = examine(folder, split_seed=2)

    assert [p.kind for p in found.problems] == ["bad-image", "bad-audio"]
    assert found.is_usable(skip_bad=True) and not found.is_usable(skip_bad=False)
    gone = {item.where for item in whole.items} - {item.where for item in found.items}
    assert gone == {"metadata.jsonl:4", "metadata.jsonl:8"}
    assert found.rows is not None
    assert len(found.rows) == len(found.items) == len(whole.items) - 2
