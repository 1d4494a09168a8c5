"""Files of time series among those of other kinds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metafleet.data.importing.importer import _asked
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from tests.folders import write
from tests.unit.metafleet.data.decoding.samples import npy
from tests.unit.metafleet.data.decoding.test_series import VALUES, csv, npz, ts
from tests.unit.metafleet.data.importing.conftest import Check

PEN = npy(np.column_stack([VALUES, np.arange(10) == 9]))
KINDS = {
    "a csv of several rows": ("a.csv", csv(), "series"),
    "a csv of one row": ("a.csv", b"1,2,3\n", "table"),
    "a header and one row": ("a.csv", b"x,y\n1,2\n", "series"),
    "a row as a list over two lines": ("a.csv", b"[1,\n2]", "table"),
    "points of a pen": ("a.npy", PEN, "stroke"),
    "three channels": ("a.npy", npy(np.ones((5, 3)) * 2), "series"),
    "a damaged npy": ("a.npy", PEN[:-1], "stroke"),
    "npz": ("a.npz", npz(a=VALUES), "series"),
    "ts": ("a.ts", ts(), "series"),
}


@pytest.mark.parametrize(("name", "content", "kind"), KINDS.values(), ids=KINDS)
def test_files_of_one_suffix_are_told_apart_by_their_content(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    write(tmp_path, {f"{label}/{name}": content for label in "ab"})

    assert dict(read_items(tmp_path, FolderOptions()).kinds) == {kind: kind}


def test_a_column_named_series_or_asked_for_as_one_is_one(tmp_path: Path) -> None:
    for column in ("series", "file_name"):
        table = f"{column},label\n" + "".join(f"{label}/1.npy,{label}\n" for label in "ab")
        write(tmp_path / column, {"metadata.csv": table, "a/1.npy": PEN, "b/1.npy": PEN})

    named = read_items(tmp_path / "series", FolderOptions())
    asked = read_items(tmp_path / "file_name", FolderOptions(columns={"series": "file_name"}))
    other = read_items(tmp_path / "file_name", FolderOptions())

    assert dict(asked.kinds) == dict(named.kinds) == {"series": "series"}
    assert dict(other.kinds) == {"stroke": "stroke"}


def test_a_folder_without_series_is_prepared_under_the_recipe_it_always_had(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {f"{label}/1.csv": "1,2,3\n" for label in "abcdef"})
    options = FolderOptions(path=str(folder), min_items=1)
    longer = replace(options, decoders={"series": {"length": 64}})

    recipes = [_asked(each) for each in (options, longer)]

    assert "table" in recipes[0] and "series" not in recipes[0]
    assert recipes[1] == {**recipes[0], "series": {"length": 64}}


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., Path]:
    def build(content: bytes) -> Path:
        for label in "abcdef":
            write(tmp_path / "f", {f"{label}/{n}.csv": csv(VALUES + n) for n in range(2)})
        return write(tmp_path / "f", {"a/0.csv": content})

    return build


@pytest.mark.parametrize("content", [b"1,2\n3,nan\n", b"1,2\n3\n4,5\n", b"1,2,3\n4,5,6\n"])
def test_a_broken_series_of_a_folder_is_a_problem_of_its_kind(
    broken: Callable[..., Path], check: Check, content: bytes
) -> None:
    found = check(broken(content), min_items=1)

    assert [(problem.kind, problem.where) for problem in found.problems] == [
        ("bad-series", "a/0.csv")
    ]
