"""Writes the records of runs into files that other programs read: CSV, JSON lines, Parquet."""

import csv
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.files import drafting
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.client.table import Table
from metafleet.tracking.files import json_lines

FILE_FORMATS: Final = ("csv", "jsonl", "parquet")
_RUN: Final = (
    *("id", "uid", "name", "experiment", "seed", "status", "steps", "created", "started"),
    *("finished", "code", "data", "checkpoint", "parent", "tags", "note"),
    *("best", "best.ci95", "last", "last.ci95", "test", "test.ci95"),
)


def export_runs(runs: Sequence[Run], folder: Path, file_format: str) -> list[Path]:
    """Write the files runs, steps, evaluations and episodes, and return their paths.

    Each file has the rows of all runs. In the files steps, evaluations and episodes, the column
    ``run`` is the uid of the run. Existing files are replaced. A file gets its name only when it is
    complete.

    Args:
        runs: the runs.
        folder: the folder of the files. It is created if it does not exist.
        file_format: one of ``FILE_FORMATS``.

    Raises:
        ConfigError: a file cannot be written, or pyarrow is not installed.
    """
    tables = {
        "runs": Table((*_RUN, "config"), [_row(run) for run in runs]),
        "steps": _joined(runs, Run.curve),
        "evaluations": _joined(runs, Run.evaluations),
        "episodes": _joined(runs, lambda run: run.episodes(split=None)),
    }
    write = {"csv": _write_csv, "jsonl": _write_lines, "parquet": _write_parquet}[file_format]
    paths = []
    for name, table in tables.items():
        path = folder / f"{name}.{file_format}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with drafting(path, mode=0o644, survives=False) as draft:
                write(table, draft)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror or error}); make room, or choose "
                "another folder with --output"
            ) from error
        paths.append(path)
    return paths


def _row(run: Run) -> dict[str, Any]:
    values = run.values(_RUN)
    return values | {"tags": " ".join(values["tags"]), "config": json.dumps(run.config)}


def _joined(runs: Sequence[Run], table_of: Callable[[Run], Table]) -> Table:
    """Return one table with the rows of every run."""
    tables = [(run.uid, table_of(run)) for run in runs]
    rows = [{"run": uid} | row for uid, table in tables for row in table]
    return Table(("run", *tables[0][1].columns), rows)


def _write_csv(table: Table, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        for row in table:
            writer.writerow(["" if value is None else _text(value) for value in row.values()])


def _write_lines(table: Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json_lines(table))


def _write_parquet(table: Table, path: Path) -> None:
    arrow = table.to_arrow()
    from pyarrow import parquet  # noqa: PLC0415 - an optional package, which is there by now

    parquet.write_table(arrow, path)


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, bool | list | tuple) else value
