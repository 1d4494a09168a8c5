"""Parquet: what it decodes to is bounded before it is decoded; classes get the names it keeps.

A file may say one long value a million times in a few bytes, for a column keeps what repeats in a
dictionary. So sizes are found in the file's own description, and where that does not suffice in the
dictionary and how often each entry of it is used. The description is that of the pages, for the
one at the file's end may say anything.

Decoding batch by batch under a budget does not replace this. A batch holds at least one row, and a
file of 323 bytes can have a row whose list decodes to 93 GiB. A page is decoded whole: one of 58 kB
takes 3.7 GB, and there may be one for each column.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import Any

from metafleet.data.decoding.base import import_library
from metafleet.data.decoding.source import MAX_SOURCE_BYTES
from metafleet.data.importing.parquet_pages import (
    DELTA_BYTE_ARRAY,
    PLAIN_DICTIONARY,
    RLE_DICTIONARY,
    Pages,
    read_pages,
)
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog
from metafleet.errors import DataMissingError, DecodeError

_REPEATING = {PLAIN_DICTIONARY, DELTA_BYTE_ARRAY, RLE_DICTIONARY}
_NUMBERS = {"BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE"}
_ROW_BYTES, _CELL_BYTES, _LISTED_NUMBER_BYTES = 400, 100, 40
"""Of Python's objects, besides what strings hold: they take more than the file's values."""


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """What a Parquet file holds.

    Attributes:
        columns: in their order; two may have one name.
        rows: number, from 1, and values by column, of those that could be read.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]


def read_parquet(file: FilePart, log: ProblemLog) -> ParquetRows | None:
    """Read a Parquet file; None, with a fatal problem, where it cannot be read.

    Columns that Hugging Face's description of the features calls ``ClassLabel`` get the names of
    the classes in place of numbers; -1, which is no class, becomes an empty cell.
    """
    try:
        pyarrow = import_library("pyarrow", package="pyarrow", extra="parquet")
        parquet = import_library("pyarrow.parquet", package="pyarrow", extra="parquet")
    except DataMissingError as error:
        log.add_fatal("missing-package", file.name, str(error))
        return None
    try:
        _check_size(pyarrow, parquet.ParquetFile(file.path), file)
        table = parquet.read_table(file.path)
        class_names = _class_names(table.schema.metadata)
        values = _times_as_texts(pyarrow, table).to_pylist()
    except DecodeError as error:
        log.add_fatal("unreadable-file", file.name, str(error))
        return None
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        log.add_fatal("unreadable-file", file.name, f"is no sound Parquet file ({reason})")
        return None
    rows = [
        (number, row)
        for number, row in enumerate(values, 1)
        if _name_classes(row, class_names, f"{file.name}:{number}", log)
    ]
    return ParquetRows(tuple(table.column_names), rows)


def _check_size(pyarrow: Any, opened: Any, file: FilePart) -> None:
    """Refuse what would take too much memory, before it is decoded."""
    metadata, total = opened.metadata, 0
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    with file.path.open("rb") as handle, mmap(handle.fileno(), 0, access=ACCESS_READ) as content:
        for number in range(metadata.num_columns):
            column = metadata.schema.column(number)
            chunks = [group.column(number) for group in groups]
            pages = [read_pages(content, chunk, metadata.created_by or "") for chunk in chunks]
            width = max(_cell_bytes(column), column.length or 0)
            total += sum(each.n_values * width + each.n_bytes for each in pages)
            _require_room(total, f"its columns to {column.path!r}")
            if column.physical_type == "BYTE_ARRAY":
                repeated = _most_repeated_bytes(pages)
                if total + repeated > MAX_SOURCE_BYTES and _has_dictionary(opened, column, pages):
                    repeated = _used_bytes(pyarrow, file, column.path)
                total += repeated
                _require_room(total, f"its columns to {column.path!r}")
    rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    _require_room(total + rows * _ROW_BYTES, f"{rows} rows")


def _cell_bytes(column: Any) -> int:
    is_listed = column.max_repetition_level == 1 and column.path.count(".") == 2
    if is_listed and column.physical_type in _NUMBERS and ".list." in column.path:
        return _LISTED_NUMBER_BYTES
    return _CELL_BYTES


def _most_repeated_bytes(pages: Sequence[Pages]) -> int:
    """Return what values could take that are stored once and used often."""
    return sum(each.n_values * each.n_bytes for each in pages if _REPEATING & each.encodings)


def _has_dictionary(opened: Any, column: Any, pages: Sequence[Pages]) -> bool:
    """Tell whether a column can be read as a dictionary and numbers of its entries."""
    if any(DELTA_BYTE_ARRAY in each.encodings for each in pages):
        return False
    roots = [
        field for field in opened.schema_arrow if f"{column.path}.".startswith(f"{field.name}.")
    ]
    return not any("extension<" in str(field.type) for field in roots)  # these are read as values


def _require_room(n_bytes: int, where: str) -> None:
    if n_bytes > MAX_SOURCE_BYTES:
        raise DecodeError(
            f"may take {n_bytes} bytes in memory, {where}; expected at most {MAX_SOURCE_BYTES}: "
            "split it into several files, drop columns, or write texts with dictionary encoding"
        )


def _used_bytes(pyarrow: Any, file: FilePart, path: str) -> int:
    """Sum the lengths of a column's values, each entry of its dictionaries being read once."""
    parquet = import_library("pyarrow.parquet", package="pyarrow", extra="parquet")
    opened = parquet.ParquetFile(file.path, read_dictionary=[path])
    compute = import_library("pyarrow.compute", package="pyarrow", extra="parquet")
    total = 0
    for group in range(opened.num_row_groups):  # one at a time: a dictionary of all is slow
        (column,) = opened.read_row_group(group, columns=[path]).columns
        for leaf in _leaves(pyarrow, column.chunks):
            lengths = compute.binary_length(leaf.dictionary)
            total += compute.sum(lengths.take(leaf.indices)).as_py() or 0
        if total > MAX_SOURCE_BYTES:
            break
    return total


def _leaves(pyarrow: Any, arrays: Sequence[Any]) -> Iterator[Any]:
    """Yield the dictionaries that lie within structs and lists."""
    for array in arrays:
        if pyarrow.types.is_dictionary(array.type):
            yield array
        elif pyarrow.types.is_nested(array.type):
            inner = array.flatten()
            yield from _leaves(pyarrow, inner if isinstance(inner, list) else [inner])


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return column -> names of its classes by their numbers, as Hugging Face's files keep them."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _name_classes(
    row: dict[str, Any], class_names: Mapping[str, list[str]], where: str, log: ProblemLog
) -> bool:
    """Put names of classes in place of numbers; False, with a problem, where one has no name."""
    before = len(log)
    for column, names in class_names.items():
        number = row.get(column)
        if not isinstance(number, int):
            continue
        if number >= len(names) or number < -1:
            log.add(
                "bad-label",
                where,
                f"{column!r} is {number}, but the file names {len(names)} classes, from 0; mend or "
                "delete the row",
            )
            continue
        row[column] = None if number == -1 else names[number]
    return len(log) == before


def _times_as_texts(pyarrow: Any, table: Any) -> Any:
    """Write times out: Python's own hold no nanoseconds, which other libraries store."""
    for place, field in enumerate(table.schema):
        if pyarrow.types.is_temporal(field.type):
            column = table.column(place).cast(pyarrow.string())
            table = table.set_column(place, field.name, column)
    return table
