"""Tables of items, in every format: what their rows and columns say."""

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from tests.folders import (
    CLASSES,
    huggingface,
    metadata,
    picture,
    sentence,
    sound,
    write,
)
from tests.unit.metafleet.data.importing.conftest import Check
from tests.unit.metafleet.data.importing.reading import read, splits


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


def test_a_column_called_as_class_names_are_in_episodes_is_called_otherwise(
    tmp_path: Path,
) -> None:
    rows = [{"class_text_file_name": "0.png", "side_file_name": "1.png", "label": "a"}]
    write(tmp_path, {f"{n}.png": picture(n) for n in range(2)})

    found = read(metadata(tmp_path, rows))

    assert dict(found.kinds) == {"class_text_": "image", "side": "image"}
    assert "modality 'class_text_' is image, from column 'class_text_file_name'" in found.notes


def test_columns_of_numbers_are_a_row_of_a_table(tmp_path: Path) -> None:
    write(tmp_path, {"iris.csv": "a,b,c,class\n1,2.5,-3,x\n4,5,1e3,y\n,,,z\n"})
    options = {"columns": {"table": "a,c"}}

    reading = read_items(tmp_path, FolderOptions(**options))  # type: ignore[arg-type]

    assert dict(reading.kinds) == {"table": "table"}
    assert [item.parts["table"].read() for item in reading.items] == [b"1.0,-3.0", b"4.0,1000.0"]
    assert [problem.kind for problem in reading.problems] == ["empty-item"]  # the row of z
    assert any("'b'" in note for note in reading.notes)  # it says what it does not use


def test_two_tables_have_widths_of_their_own(tmp_path: Path, check: Check) -> None:
    lines = [f"1,2,3,4,{n},{label}" for n, label in enumerate(2 * CLASSES)]
    folder = write(tmp_path / "folder", {"t.csv": "\n".join(["h,w,r,g,b,label", *lines])})

    found = check(folder, columns={"size": "h,w", "colour": "r,g,b"})

    assert not found.problems
    shapes = {name: array.shape for name, array in found.decoded.arrays.items()}
    assert shapes == {"colour": (24, 3), "size": (24, 2)}


def test_lines_that_are_not_utf8_are_found_among_multiline_texts(tmp_path: Path) -> None:
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


def test_timestamps_in_nanoseconds_are_ignored(tmp_path: Path) -> None:
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
