"""Parquet: read in a process with bounded memory; classes get the names that the file keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.data.decoding.base import import_library
from metafleet.data.decoding.processes import DecodingProcess
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog
from metafleet.errors import DataMissingError, DecodeError

MAX_TABLE_BYTES: Final = 1 << 31
"""Memory of the process that reads a file; some 400 MB of it are libraries and stacks."""


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """What a Parquet file holds.

    Attributes:
        columns: in their order; two may have one name.
        rows: number, from 1, and values by column, of those that could be read.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]


def read_parquet(file: FilePart, log: ProblemLog, process: DecodingProcess) -> ParquetRows | None:
    """Read a Parquet file; None, with a fatal problem, where it cannot be read.

    Columns that Hugging Face's description of the features calls ``ClassLabel`` get the names of
    the classes in place of numbers; -1, which is no class, becomes an empty cell.
    """
    try:
        import_library("pyarrow", package="pyarrow", extra="parquet")
        columns, class_names, values = process.read_parquet(file.path, MAX_TABLE_BYTES)
    except DataMissingError as error:
        log.add_fatal("missing-package", file.name, str(error))
        return None
    except DecodeError as error:
        log.add_fatal("unreadable-file", file.name, str(error))
        return None
    rows = [
        (number, row)
        for number, row in enumerate(values, 1)
        if _name_classes(row, class_names, f"{file.name}:{number}", log)
    ]
    return ParquetRows(tuple(columns), rows)


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
