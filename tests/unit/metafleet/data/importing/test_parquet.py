"""Parquet files: the shards of Hugging Face's Hub, and files that decode to more than they look."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from tests.folders import picture, sound
from tests.unit.metafleet.data.importing.conftest import Check
from tests.unit.metafleet.data.importing.reading import read, splits

NAMES = ("cat", "dog", "owl")


def shard(path: Path, labels: Sequence[int | None], names: Sequence[str] = NAMES) -> Path:
    """A file as Hugging Face's `datasets` writes it: files in cells, classes as numbers."""
    rows = [
        {
            "image": {"bytes": picture(100 * len(path.name) + n), "path": None},
            "audio": {"bytes": sound(n), "path": f"{n}.wav"},
            "label": label,
        }
        for n, label in enumerate(labels)
    ]
    features = {
        "image": {"_type": "Image"},
        "audio": {"sampling_rate": 8000, "_type": "Audio"},
        "label": {"names": list(names), "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize("place", ["", "data/", "plain_text/", "data/plain/"])
def test_the_shards_of_the_hub_are_read_with_their_classes_and_splits(
    tmp_path: Path, place: str
) -> None:
    shard(tmp_path / f"{place}train-00000-of-00002.parquet", [0, 0])
    shard(tmp_path / f"{place}train-00001-of-00002-0123456789abcdef.parquet", [0])
    shard(tmp_path / f"{place}validation-00000-of-00001.parquet", [1])
    shard(tmp_path / f"{place}test-00000-of-00001.parquet", [2])

    reading = read(tmp_path)

    assert reading.layout == "huggingface"
    assert dict(reading.kinds) == {"image": "image", "audio": "audio"}
    assert splits(reading) == {META_TRAIN: {"cat"}, META_VAL: {"dog"}, META_TEST: {"owl"}}
    assert len(reading.items) == 5
    assert f"{place}train-00000-of-00002.parquet:2" in [item.where for item in reading.items]


def test_classes_in_two_splits_of_the_hub_are_told_and_can_be_hashed(
    tmp_path: Path, check: Check
) -> None:
    names = [f"class {n}" for n in range(10)]
    for split in ("train", "test"):
        path = tmp_path / f"data/{split}-00000-of-00001.parquet"
        shard(path, [n for n in range(10) for _ in range(2)], names)

    given, hashed = check(tmp_path), check(tmp_path, split="hashed")

    (told,) = given.problems
    assert told.kind == "label-in-two-splits" and "2 in meta_test, 2 in meta_train" in told.message
    assert told.message.endswith("split again with --split hashed")
    assert not hashed.problems and set(hashed.splits) == set(names)


def test_rows_and_shards_that_cannot_be_placed_are_all_listed(tmp_path: Path) -> None:
    shard(tmp_path / "data/train-00000-of-00001.parquet", [0, 3, -1, None])
    shard(tmp_path / "data/unsupervised-00000-of-00001.parquet", [1])

    found = read_items(tmp_path, FolderOptions())

    assert [(problem.kind, problem.where) for problem in found.problems] == [
        ("unknown-split", "data/unsupervised-00000-of-00001.parquet"),
        ("bad-label", "data/train-00000-of-00001.parquet:2"),
        ("empty-label", "data/train-00000-of-00001.parquet:3"),
        ("empty-label", "data/train-00000-of-00001.parquet:4"),
    ]
    assert not any(problem.is_fatal for problem in found.problems)


def test_shards_that_are_missing_are_told_and_the_others_can_be_read(tmp_path: Path) -> None:
    shard(tmp_path / "data/train-00000-of-00003-0123456789abcdef.parquet", [0])
    shard(tmp_path / "data/train-00002-of-00003.parquet", [0])
    shard(tmp_path / "data/validation-00003-of-00009.parquet", [1])
    shard(tmp_path / "data/test-00000-of-00002.parquet", [2])
    shard(tmp_path / "data/test-00001-of-00002.parquet", [2])
    shard(tmp_path / "data/dev-00001-of-00002.parquet", [1])  # counted from 1
    shard(tmp_path / "data/dev-00002-of-00002.parquet", [1])

    found = read_items(tmp_path, FolderOptions())

    assert [str(problem) for problem in found.problems] == [
        "data/train-*-of-00003.parquet: 1 of 3 shards of 'train' is missing: 00001; download it "
        "[missing-file]",
        "data/validation-*-of-00009.parquet: 8 of 9 shards of 'validation' are missing: 00000, "
        "00001, 00002, 00004, 00005, ...; download them [missing-file]",
    ]
    assert len(found.items) == 7 and not any(problem.is_fatal for problem in found.problems)


def test_of_several_configurations_one_is_named(tmp_path: Path) -> None:
    for name in ("plain", "cropped"):
        shard(tmp_path / "data" / name / "train-00000-of-00001.parquet", [0, 1])

    found = read_items(tmp_path / "data/plain", FolderOptions())

    for path, names, layout in (
        (tmp_path, "'data/cropped', 'data/plain'", "auto"),
        (tmp_path / "data", "'cropped', 'plain'", "auto"),
        (tmp_path / "data", "'cropped', 'plain'", "huggingface"),
    ):
        (problem,) = read_items(path, FolderOptions(layout=layout)).problems
        assert (problem.kind, problem.is_fatal) == ("no-layout", True)
        assert f"has Parquet shards in the folders {names}, which may be" in str(problem)
        assert problem.message.endswith(f"name one, such as {tmp_path / 'data/cropped'}")
    assert [item.label for item in found.items] == ["cat", "dog"] and not found.problems


@pytest.mark.parametrize("place", ["", "data/"])
def test_shards_in_folders_of_splits_are_read_together(tmp_path: Path, place: str) -> None:
    shard(tmp_path / f"{place}train/train-00000-of-00001.parquet", [0, 0])
    shard(tmp_path / f"{place}val/part-00000-of-00001.parquet", [1])
    shard(tmp_path / f"{place}test/test-00000-of-00001.parquet", [2])

    reading = read(tmp_path)

    assert reading.layout == "huggingface" and len(reading.items) == 4
    assert splits(reading) == {META_TRAIN: {"cat"}, META_VAL: {"dog"}, META_TEST: {"owl"}}


@pytest.mark.parametrize("is_list", [False, True], ids=["cells", "a list in each cell"])
def test_a_small_file_that_decodes_to_very_much_is_refused(tmp_path: Path, is_list: bool) -> None:
    cells = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(1_000_000, np.int32)), pyarrow.array(["y" * 100_000])
    )
    if is_list:
        cells = pyarrow.ListArray.from_arrays(pyarrow.array([0, 999_999, 1_000_000]), cells)
    table = pyarrow.table({"text": cells, "label": ["a"] * len(cells)})
    parquet.write_table(table, tmp_path / "t.parquet", compression="zstd")

    (problem,) = read_items(tmp_path, FolderOptions()).problems

    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    assert problem.kind == "unreadable-file"
    assert "expected at most 2147483648 bytes" in problem.message


def test_values_that_repeat_are_counted_as_often_as_they_are_used(tmp_path: Path) -> None:
    """What a column could decode to at worst is refused only if it does."""
    words = [f"{'long' * 5_000}{n}" for n in range(30)]
    rows = [{"text": "short", "tags": ["short", "s"], "label": "a"} for _ in range(20_000)]
    rows += [{"text": word, "tags": [word], "label": "b"} for word in words]
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet", dictionary_pagesize_limit=1 << 22
    )

    assert len(read(tmp_path).items) == 20_030


def test_row_groups_without_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    some = pyarrow.table({"text": ["one", "two"], "label": ["a", "b"]})
    with parquet.ParquetWriter(path, some.schema) as writer:
        for part in (some, some.slice(0, 0), some):
            writer.write_table(part)

    found = read_items(path, FolderOptions())

    assert not found.problems
    assert [item.label for item in found.items] == ["a", "b", "a", "b"]
