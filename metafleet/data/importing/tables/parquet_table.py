"""Parquet tables, read in a process with bounded memory; class numbers become class names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.data.decoding.base import import_library
from metafleet.data.decoding.processes import DecodingProcess
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog
from metafleet.errors import DataMissingError, DecodeError

MAX_TABLE_BYTES: Final = 1 << 31
"""Memory limit of the process that reads a file; libraries and stacks use about 400 MB of it."""


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """The contents of a Parquet file.

    Attributes:
        columns: names of the columns, in the order of the file. Names may repeat.
        rows: (number from 1, column -> value) for each row that could be read.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[int, Mapping[str, Any]]]


def read_parquet(file: FilePart, log: ProblemLog, process: DecodingProcess) -> ParquetRows | None:
    """Read a Parquet file. If it cannot be read, log a fatal problem and return None.

    In columns that Hugging Face's feature description declares as ``ClassLabel``, numbers are
    replaced by class names. The number -1, which means no class, becomes an empty cell.
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
    """Replace class numbers by names; return False, with a problem, if a number has no name."""
    before = len(log)
    for column, names in class_names.items():
        number = row.get(column)
        if not isinstance(number, int):
            continue
        if number >= len(names) or number < -1:
            log.add(
                "bad-label",
                where,
                f"{column!r} is {number}, but the file names {len(names)} classes, from 0; fix or "
                "delete the row",
            )
            continue
        row[column] = None if number == -1 else names[number]
    return len(log) == before
