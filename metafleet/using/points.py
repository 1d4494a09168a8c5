"""Points of a function, read from a table: the support set and the questions of regression.

x,y            or JSON lines: {"x": 0.5, "y": 1.25}
0.5,1.25       an x of several numbers has columns x0, x1, ...; so has y
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metafleet.errors import DataError, DataMissingError
from metafleet.problem import Problem

_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Points:
    """Rows of a table.

    Attributes:
        names: "<file>:<line>" of each.
        inputs: modality -> [n, *shape].
        targets: [n, target_dim]; None where they were not asked for.
    """

    names: tuple[str, ...]
    inputs: dict[str, Tensor]
    targets: Tensor | None


def read_points(path: Path, problem: Problem, *, is_labelled: bool) -> Points:
    """Read a CSV or JSONL file.

    Args:
        path: the file.
        problem: names and shapes of inputs and targets.
        is_labelled: read the targets too.

    Raises:
        DataMissingError: there is no such file.
        DataError: it lacks a column, or holds something that is no finite number.
    """
    columns = {
        name: _columns(name, torch.Size(shape).numel())
        for name, shape in problem.modalities.items()
    }
    if is_labelled:
        columns["y"] = _columns("y", problem.target_dim)
    names: list[str] = []
    rows: dict[str, list[list[float]]] = {name: [] for name in columns}
    for line, row in _rows(path):
        names.append(f"{path.name}:{line}")
        for name, keys in columns.items():
            rows[name].append([_number(row, key, names[-1]) for key in keys])
    if not names:
        raise DataError(f"{path} has no row; expected columns {_listed(columns)}")
    tensors = {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}
    targets = tensors.pop("y") if is_labelled else None
    shapes = problem.modalities
    inputs = {name: t.view(len(names), *shapes[name]) for name, t in tensors.items()}
    return Points(tuple(names), inputs, targets)


def _columns(name: str, width: int) -> list[str]:
    return [name] if width == 1 else [f"{name}{i}" for i in range(width)]


def _listed(columns: Mapping[str, list[str]]) -> str:
    return ", ".join(key for keys in columns.values() for key in keys)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            if path.suffix.lower() in _JSON_LINES:
                for line, text in enumerate(handle, start=1):
                    if text.strip():
                        yield line, _object(text, f"{path.name}:{line}")
                return
            reader = csv.DictReader(handle)
            for row in reader:
                yield reader.line_num, row
    except FileNotFoundError as error:
        raise DataMissingError(f"there is no file {path}; check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table ({error}); expected CSV or JSONL"
        ) from error


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f'{where} is no JSON object; expected one such as {{"x": 0.5}}')
    return value


def _number(row: Mapping[str, Any], column: str, where: str) -> float:
    if column not in row:
        there = ", ".join(str(name) for name in row) or "none"
        raise DataError(f"{where} has no column {column!r}; its columns are: {there}")
    value = row[column]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= torch.finfo(torch.float32).max:  # not a number fails every comparison
        raise DataError(f"{where}: {column}={value!r:.40}; expected a finite number")
    return number
