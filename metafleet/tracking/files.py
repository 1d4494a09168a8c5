"""Writes the rows of runs into files while the runs are executed: JSON lines or Parquet."""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from metafleet.files import drafting
from metafleet.tracking.missing import missing
from metafleet.tracking.records import Mark, Row, TableName, TrackedRun

_TABLES: Final[tuple[TableName, ...]] = get_args(TableName)
_PAUSES: Final = 20.0
"""A Parquet file is written again after this multiple of the time that the last writing took."""


class FileSink:
    """Writes the files ``run.json``, ``steps``, ``evaluations`` and ``checkpoints`` of each run.

    The columns are those of `metafleet runs export`. The files themselves say which rows they have,
    so there is no other mark. Rows are appended to JSON lines. A Parquet file cannot grow, so it is
    written again, and each file gets its name when it is complete.

    Args:
        folder: the files of a run are in its folder ``NAME-UID``.
        file_format: "jsonl" or "parquet".

    Raises:
        ConfigError: pyarrow is needed and is not installed.
    """

    def __init__(self, folder: Path, file_format: Literal["jsonl", "parquet"]) -> None:
        self._folder, self._format = folder, file_format
        self._arrow: Any = None
        self._parquet: Any = None
        if file_format == "parquet":
            self._arrow, self._parquet = _arrow()
        self._place = folder
        self._uid = ""
        self._waiting: list[Row] = []
        self._next_s = 0.0

    def open(self, run: TrackedRun) -> Mark:
        """Read which rows the files have. What a crash left of a last line is removed."""
        self._place, self._uid = self._folder / run.label, run.uid
        self._place.mkdir(parents=True, exist_ok=True)
        self._write_run(run)
        mark = Mark()
        for table in _TABLES:
            mark = mark.plus(_row(table, values) for values in self._read(table))
        return mark

    def send(self, rows: Sequence[Row], mark: Mark) -> None:
        """Append the rows; rows for Parquet files wait until the next writing."""
        self._waiting += rows
        if self._format == "jsonl" or time.monotonic() >= self._next_s:
            self._write()

    def end(self, run: TrackedRun) -> None:
        """Write the rows that wait, and the status."""
        self._write()
        self._write_run(run)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _write(self) -> None:
        started_s = time.monotonic()
        for table in _TABLES:
            rows = [{"run": self._uid, **one.values} for one in self._waiting if one.table == table]
            if rows and self._format == "jsonl":
                with self._path(table).open("a", encoding="utf-8") as file:
                    file.writelines(json_lines(rows))
            elif rows:
                content = self._arrow.Table.from_pylist([*self._read(table), *rows])
                with drafting(self._path(table), mode=0o644, survives=False) as draft:
                    self._parquet.write_table(content, draft)
        self._waiting = []
        now_s = time.monotonic()
        self._next_s = now_s + _PAUSES * (now_s - started_s)

    def _write_run(self, run: TrackedRun) -> None:
        with drafting(self._place / "run.json", mode=0o644, survives=False) as draft:
            draft.write_text("".join(json_lines([asdict(run)])), encoding="utf-8")

    def _read(self, table: TableName) -> list[dict[str, Any]]:
        path = self._path(table)
        if not path.exists():
            return []
        if self._format == "parquet":
            found: list[dict[str, Any]] = self._parquet.read_table(path).to_pylist()
            return found
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if complete != content:
            os.truncate(path, len(complete))
        return [json.loads(line) for line in complete.splitlines()]

    def _path(self, table: TableName) -> Path:
        return self._place / f"{table}.{self._format}"


def json_lines(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Return the text of each row, with its line end.

    Times are texts in ISO 8601. NaN and infinite numbers, which JSON lacks, are null.
    """
    for row in rows:
        yield json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=_text) + "\n"


def _finite(value: Any) -> Any:
    """Return a value with None in place of each number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _row(table: TableName, values: Mapping[str, Any]) -> Row:
    return Row(table=table, step=values["step"], values=values, at=datetime.min)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - an optional package
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise missing("Parquet", "parquet", error) from error
    return pyarrow, parquet
