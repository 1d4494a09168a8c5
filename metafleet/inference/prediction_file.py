"""Predictions as CSV or JSON lines."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from metafleet.data.importing.spreadsheet import as_text
from metafleet.errors import ModelError
from metafleet.inference.files import check_new_file, write_new_file
from metafleet.inference.labelling import Labelling
from metafleet.inference.prediction import Prediction, Value

_SUFFIXES = (".csv", ".jsonl")


def check_out(path: Path | None, *, force: bool) -> None:
    """Check that predictions may be written to ``path``. Call this before computing them.

    Raises:
        ModelError: the path has an unknown suffix, it exists, or its folder does not exist.
    """
    if path is None:
        return
    if path.suffix.lower() not in _SUFFIXES:
        raise ModelError(
            f"--out {path} is neither .csv nor .jsonl; give one of these suffixes, or leave out "
            "--out to print CSV"
        )
    check_new_file(path, force=force)


def write_predictions(
    rows: Sequence[Prediction | Labelling | Value], path: Path | None, *, force: bool = False
) -> None:
    """Write one row per item to a file, atomically. Without a path, print the rows as CSV.

    Raises:
        ModelError: the file exists or cannot be written, or a predicted number is not finite.
    """
    check_out(path, force=force)
    is_csv = path is None or path.suffix.lower() == ".csv"
    text = _as_csv(rows) if is_csv else _as_json_lines(rows)
    if path is None:
        sys.stdout.write(text)
        return
    write_new_file(path, text.encode())


def _as_csv(rows: Sequence[Prediction | Labelling | Value]) -> str:
    tables = [row.columns() for row in rows]
    columns = list(dict.fromkeys(name for table in tables for name in table))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: as_text(cell) if isinstance(cell, str) else cell for name, cell in table.items()}
        for table in tables
    )
    return out.getvalue()


def _as_json_lines(rows: Sequence[Prediction | Labelling | Value]) -> str:
    return "".join(f"{_as_json(row)}\n" for row in rows)


def _as_json(row: Prediction | Labelling | Value) -> str:
    try:
        return json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ModelError(
            f"item {row.item!r} has a number that is not finite, for which JSON has no word; leave "
            "the item out"
        ) from error
