"""Reads the points of a function, which are the examples of a regression task, from a table.

x,y            or JSON lines: {"x": 0.5, "y": 1.25}
0.5,1.25       an x of several numbers has columns x0, x1, ...; the same applies to y
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog, first_lines
from metafleet.data.importing.tables.table import (
    TABLE_SUFFIXES,
    Row,
    Table,
    number_of,
    read_table,
)
from metafleet.errors import DataError, DataMissingError
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class TablePoints:
    """Rows of a table.

    Attributes:
        names: "<file>:<line>" of each row.
        inputs: modality -> [n, *shape].
        targets: targets [n, target_dim]; None if targets were not requested.
    """

    names: tuple[str, ...]
    inputs: dict[str, Tensor]
    targets: Tensor | None


def read_points(path: Path, problem: Problem, *, is_labelled: bool) -> TablePoints:
    """Read a table of points.

    Args:
        path: the file: CSV, TSV, JSON lines or Parquet.
        problem: names and shapes of inputs and targets.
        is_labelled: whether to read the targets too.

    Raises:
        DataMissingError: the file does not exist.
        DataError: a column is missing, or a cell is not a finite number.
    """
    columns = {
        name: _columns(name, torch.Size(shape).numel())
        for name, shape in problem.modalities.items()
    }
    if is_labelled:
        columns["y"] = _columns("y", problem.target_dim)
    names: list[str] = []
    rows: dict[str, list[list[float]]] = {name: [] for name in columns}
    for row in _table(path).rows:
        names.append(row.where)
        for name, keys in columns.items():
            rows[name].append([_number(row, key) for key in keys])
    if not names:
        raise DataError(f"{path} has no row; expected columns {_listed(columns)}")
    tensors = {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}
    targets = tensors.pop("y") if is_labelled else None
    shapes = problem.modalities
    inputs = {name: t.view(len(names), *shapes[name]) for name, t in tensors.items()}
    return TablePoints(tuple(names), inputs, targets)


def _columns(name: str, width: int) -> list[str]:
    return [name] if width == 1 else [f"{name}{i}" for i in range(width)]


def _listed(columns: Mapping[str, list[str]]) -> str:
    return ", ".join(key for keys in columns.values() for key in keys)


def _table(path: Path) -> Table:
    """Read the table as the data set ``functions`` does; the error lists all problems."""
    if not path.is_file():
        raise DataMissingError(f"there is no file {path}; check the path")
    if path.suffix.lower() not in TABLE_SUFFIXES:
        expected = ", ".join(TABLE_SUFFIXES)
        raise DataError(f"{path} is no table that can be read; expected one of {expected}")
    log, stat = ProblemLog(), path.stat()
    table = read_table(FilePart(path, path.name, stat.st_size, stat.st_mtime_ns), log)
    if table is None or len(log):
        raise DataError("\n".join([f"{path} cannot be read:", *first_lines(log.all())]))
    return table


def _number(row: Row, column: str) -> float:
    if column not in row.values:
        there = ", ".join(row.values) or "none"
        raise DataError(f"{row.where} has no column {column!r}; its columns are: {there}")
    number = number_of(row.values[column])
    if number is None:
        raise DataError(
            f"{row.where}: {column}={row.values[column]!r:.40}; expected a finite number"
        )
    return number
