"""What a Parquet file takes in memory is found in its pages, whatever its footer says."""

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.parquet_pages import read_pages
from metafleet.data.importing.problems import Problem
from metafleet.data.importing.reading import read_items
from metafleet.data.importing.tables import parquet_table

_ENCODINGS = {"PLAIN_DICTIONARY": 2, "DELTA_BYTE_ARRAY": 7, "RLE_DICTIONARY": 8}


def problems(folder: Path) -> tuple[Problem, ...]:
    return read_items(folder, FolderOptions()).problems


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


def test_a_footer_that_says_too_little_lets_nothing_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    table = pyarrow.table({"text": ["y" * 5_000_000], "label": ["a"]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    belittle(path)
    assert not problems(tmp_path)
    monkeypatch.setattr(parquet_table, "MAX_SOURCE_BYTES", 1_000_000)

    (problem,) = problems(tmp_path)

    assert parquet.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size == 1
    assert path.stat().st_size < 10_000
    assert "may take 5000" in problem.message and "expected at most 1000000" in problem.message


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "gzip"])
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY"])
def test_pages_say_what_an_honest_footer_says(
    tmp_path: Path, version: str, compression: str, encoding: str
) -> None:
    rng = np.random.default_rng(1)
    words = [[f"word {n}" for n in rng.integers(9, size=rng.integers(4))] for _ in range(5_000)]
    table = pyarrow.table({"words": words, "size": rng.integers(1 << 60, size=5_000)})
    path = tmp_path / "t.parquet"
    is_delta = encoding.startswith("DELTA")
    parquet.write_table(
        table,
        path,
        compression=compression,
        data_page_version=version,
        data_page_size=5_000,
        row_group_size=2_000,
        use_dictionary=encoding == "RLE_DICTIONARY",
        column_encoding={"words.list.element": encoding} if is_delta else None,
    )

    metadata, content = parquet.ParquetFile(path).metadata, path.read_bytes()

    for group in range(metadata.num_row_groups):
        for column in range(2):
            chunk = metadata.row_group(group).column(column)
            pages = read_pages(content, chunk, metadata.created_by)
            assert pages.n_values == chunk.num_values
            # without headers, but with entries of a dictionary
            assert 0.8 * chunk.total_uncompressed_size < pages.n_bytes
            assert pages.n_bytes < chunk.total_uncompressed_size + 16 * pages.n_values
            said = {_ENCODINGS[name] for name in chunk.encodings if name in _ENCODINGS}
            assert pages.encodings & set(_ENCODINGS.values()) == said


@pytest.mark.parametrize("is_json", [False, True])
def test_what_repeats_is_counted_in_columns_of_special_types_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_json: bool
) -> None:
    kind = pyarrow.json_() if is_json else pyarrow.string()
    cells = pyarrow.array(['"' + "y" * 10_000 + '"'] * 3_000, kind)
    parquet.write_table(pyarrow.table({"text": cells}), tmp_path / "t.parquet")
    monkeypatch.setattr(parquet_table, "MAX_SOURCE_BYTES", 3_000_000)

    (problem,) = problems(tmp_path)

    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    assert "in memory, its columns to 'text'; expected at most 3000000" in problem.message


def test_a_page_without_a_header_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": ["a", "b"]}), path)
    content = path.read_bytes()
    for damage in (b"\xff" * 24, b"\x15" + b"\xff" * 23, b"\x1c" * 24):
        path.write_bytes(content[:4] + damage + content[28:])

        (problem,) = problems(tmp_path)

        assert problem.kind == "unreadable-file"
        assert problem.message.startswith("is no sound Parquet file (a page's header ")


def test_cells_are_counted_as_what_python_makes_of_them(tmp_path: Path) -> None:
    """A column of numbers takes no room in the file; a list of them takes less than cells do."""
    path = tmp_path / "t.parquet"
    columns = {f"c{n}": pyarrow.array(np.zeros(700_000, np.int8)) for n in range(13)}
    table = pyarrow.table(columns | {"label": ["a"] * 700_000})
    parquet.write_table(table, path, compression="zstd")

    (problem,) = problems(tmp_path)

    assert path.stat().st_size < 100_000
    assert "may take 12" in problem.message and "700000 rows; expected at most" in problem.message


def test_rows_of_features_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    features = list(rng.normal(size=(500, 768)).astype(np.float32))
    table = pyarrow.table({"features": features, "label": ["a"] * 500})
    parquet.write_table(table, tmp_path / "t.parquet")
    opened = parquet.ParquetFile(tmp_path / "t.parquet")

    assert parquet_table._cell_bytes(opened.metadata.schema.column(0)) == 40
    reading = read_items(tmp_path, FolderOptions(columns={"table": "features"}))
    assert len(reading.items) == 500 and not reading.problems
