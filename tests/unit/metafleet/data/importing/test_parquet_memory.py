"""Parquet files that decode to far more than their size, crash the reader or make it hang."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from metafleet.data.decoding import processes
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reading import read_items
from metafleet.data.importing.tables import parquet_table
from metafleet.data.importing.tables.table import read_tables

SOME = {"text": ["one", "two"], "label": ["a", "b"]}
LIMIT = 700_000_000


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less memory than there is outside tests, so that they are quick."""
    monkeypatch.setattr(parquet_table, "MAX_TABLE_BYTES", LIMIT)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", "tests.unit.metafleet.data.importing.faulty_reader")


def write(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **{"compression": "zstd"} | options)
    return path


def repeated(value: str, n: int) -> pyarrow.Array:
    return pyarrow.DictionaryArray.from_arrays(np.zeros(n, np.int32), pyarrow.array([value]))


def varint(value: int, n_bytes: int) -> bytes:
    """A number as Thrift writes it, in so many bytes, though fewer would do."""
    sevens = [(2 * value >> 7 * place) & 127 for place in range(n_bytes)]
    return bytes([*(seven | 128 for seven in sevens[:-1]), sevens[-1]])


def belittle(path: Path) -> None:
    """Let the footer say that the first column takes a byte."""
    group = parquet.ParquetFile(path).metadata.row_group(0)
    content = path.read_bytes()
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[at:]
    for size in (group.column(0).total_uncompressed_size, group.total_byte_size):
        n_bytes = -(-(2 * size).bit_length() // 7)
        footer = footer.replace(varint(size, n_bytes), varint(1, n_bytes))
    path.write_bytes(content[:at] + footer)


def one_row(path: Path) -> None:
    cells = pyarrow.ListArray.from_arrays(
        pyarrow.array([0, 1_000_000]), repeated("y" * 100_000, 1_000_000)
    )
    write(path, {"text": cells}, store_schema=False)


def one_page(path: Path) -> None:
    write(path, {"text": ["y" * 200_000_000], "label": ["a"]}, use_dictionary=False)


def a_page_that_the_footer_belittles(path: Path) -> None:
    one_page(path)
    belittle(path)
    assert parquet.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size == 1


def shared_beginnings(path: Path) -> None:
    column_encoding = {"text": "DELTA_BYTE_ARRAY", "label": "PLAIN"}
    columns = {"text": ["y" * 10_000] * 30_000, "label": ["a"] * 30_000}
    write(path, columns, use_dictionary=False, column_encoding=column_encoding)


def an_extension_type(path: Path) -> None:
    write(path, {"text": pyarrow.array(['"' + "y" * 10_000 + '"'] * 30_000, pyarrow.json_())})


def a_text_with_one_wide_character(path: Path) -> None:
    """Python takes four bytes for each character of it."""
    write(path, {"text": ["y" * 100_000_000 + "\U0001f600"], "label": ["a"]}, use_dictionary=False)


def many_small_cells(path: Path) -> None:
    columns = {f"c{n}": np.zeros(1_500_000, np.int8) for n in range(5)}
    write(path, columns)


def rows_of_nothing(path: Path) -> None:
    """The reader could hold them; the importing process takes more for each than the reader."""
    write(path, {"text": pyarrow.nulls(1_000_000)})


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    "make",
    [
        one_row,
        one_page,
        a_page_that_the_footer_belittles,
        shared_beginnings,
        an_extension_type,
        a_text_with_one_wide_character,
        many_small_cells,
        rows_of_nothing,
    ],
)
def test_a_file_that_decodes_to_too_much_is_one_line_and_the_next_is_read(
    tmp_path: Path, make: Any
) -> None:
    make(tmp_path / "train.parquet")
    write(tmp_path / "val.parquet", SOME)

    found = read_items(tmp_path, FolderOptions())

    (problem,) = found.problems
    assert (tmp_path / "train.parquet").stat().st_size < 100_000
    assert (problem.kind, problem.where) == ("unreadable-file", "train.parquet")
    assert problem.message.startswith("takes too much memory after row ")
    assert f"expected at most {LIMIT} bytes: split it" in problem.message
    assert [item.where for item in found.items] == ["val.parquet:1", "val.parquet:2"]


@pytest.mark.usefixtures("limit", "faulty")
def test_where_the_system_enforces_no_limit_what_is_decoded_is_counted(tmp_path: Path) -> None:
    cells = repeated("y" * 1_000, 1_000_000)
    write(
        tmp_path / "unlimited.parquet",
        {"text": cells, "label": ["a"] * 1_000_000},
        store_schema=False,
    )

    (problem,) = read_items(tmp_path, FolderOptions()).problems

    assert "takes too much memory after row " in problem.message


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash", "decoding it ended the decoder's process (signal 11); write it again"),
        ("hang", "decoding it hung: no result after 0.2 s; write it again"),
    ],
)
def test_a_reader_that_crashes_or_hangs_costs_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    def files() -> Iterator[FilePart]:
        for stem in ("a", name, "z"):
            path = write(tmp_path / f"{stem}.parquet", SOME)
            monkeypatch.setattr(processes, "ITEM_TIMEOUT_S", 0.2 if stem == "hang" else 300)
            yield FilePart(path, path.name, path.stat().st_size, path.stat().st_mtime_ns)

    log = ProblemLog()
    tables = read_tables(files(), log)

    (problem,) = log.all()
    assert problem.where == f"{name}.parquet" and problem.message.startswith(message)
    assert [table.file.name for table in tables] == ["a.parquet", "z.parquet"]


def test_one_process_reads_all_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, start = [], processes._start
    monkeypatch.setattr(processes, "_start", lambda: started.append(1) or start())
    for number in range(5):
        write(tmp_path / f"train-{number:05}-of-00005.parquet", SOME)

    found = read_items(tmp_path, FolderOptions())

    assert len(found.items) == 10 and len(started) == 1


def test_decimals_are_numbers_and_lists_of_dates_do_no_harm(tmp_path: Path) -> None:
    when = pyarrow.array([[0], [1]], pyarrow.list_(pyarrow.date32()))
    price = pyarrow.array([1, 2]).cast(pyarrow.decimal128(21, 2))
    write(tmp_path / "t.parquet", SOME | {"when": when, "price": price})

    found = read_items(tmp_path, FolderOptions(columns={"text": "text", "table": "price"}))

    assert not found.problems
    assert [item.parts["table"].read() for item in found.items] == [b"1.0", b"2.0"]


def test_a_damaged_page_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", SOME)
    content = path.read_bytes()
    for damage in (b"\xff" * 24, b"\x15" + b"\xff" * 23, b"\x1c" * 24):
        path.write_bytes(content[:4] + damage + content[28:])

        (problem,) = read_items(tmp_path, FolderOptions()).problems

        assert problem.kind == "unreadable-file" and "\n" not in problem.message
        assert problem.message.startswith("is no sound Parquet file (")


def test_rows_of_features_are_read(tmp_path: Path) -> None:
    features = list(np.random.default_rng(1).normal(size=(500, 768)).astype(np.float32))
    write(tmp_path / "t.parquet", {"features": features, "label": ["a"] * 500})

    reading = read_items(tmp_path, FolderOptions(columns={"table": "features"}))

    assert len(reading.items) == 500 and not reading.problems
