"""Regression on a user's table, in which each task is a function.

    machine,temperature,load,power      task="machine", x=["temperature", "load"], y=["power"]
    a,20.5,0.3,112.0

An episode draws a task, and then draws a support set and a disjoint query set from the task's rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from metafleet.data.base import DataSet
from metafleet.data.functions.function_table import FunctionTable, read_functions
from metafleet.data.importing.tables.table import TABLE_SUFFIXES
from metafleet.data.prepared.download import hash_file
from metafleet.data.summary import DataSummary, ModalitySummary, Progress, SplitSummary
from metafleet.digests import json_sha256
from metafleet.errors import DataMissingError
from metafleet.options import require

_OPTIONS_OF_ROWS = ("task", "x", "y", "split_column", "split_fractions", "split_seed")


@dataclass(frozen=True, slots=True)
class FunctionsOptions:
    """Options of ``Functions``.

    Attributes:
        path: path of the table, absolute or starting with "~". It is CSV, TSV, JSON lines or
            Parquet.
        task: the column that names the function of a row.
        x: columns of the input, one or more.
        y: columns of the target, one or more.
        split_column: the column with the split of a row's task; "" to split tasks by a hash.
        split_fractions: shares of the tasks that go to meta_train, meta_val and meta_test.
        split_seed: seed of the hash.
    """

    path: str = ""
    task: str = "task"
    x: tuple[str, ...] = ("x",)
    y: tuple[str, ...] = ("y",)
    split_column: str = ""
    split_fractions: tuple[float, ...] = (0.6, 0.2, 0.2)
    split_seed: int = 0

    def __post_init__(self) -> None:
        is_absolute = self.path == "" or Path(self.path).expanduser().is_absolute()
        require(is_absolute, "path", self.path, "an absolute path, or one from ~")
        for option, columns in (("x", self.x), ("y", self.y)):
            require(len(columns) > 0, option, list(columns), "a column or more")
        used = [self.task, *self.x, *self.y, *([self.split_column] if self.split_column else [])]
        require(len(set(used)) == len(used), "columns", used, "each column for one thing")
        shares = self.split_fractions
        is_whole = len(shares) == 3 and min(shares) >= 0 and math.isclose(sum(shares), 1.0)
        require(is_whole, "split_fractions", list(shares), "three shares that add up to 1")


class Functions(DataSet):
    """Regression on a user's table; every process reads the whole table, and nothing is stored."""

    name = "functions"
    title = "a table of your own: functions to regress, each from a few of its rows"
    licence = "yours"
    origin = "yours: `path` names a CSV, TSV, JSON lines or Parquet file"
    Options = FunctionsOptions

    def check_place(self, options: FunctionsOptions) -> None:
        """Check that the table exists."""
        path = Path(options.path).expanduser()
        if not options.path:
            raise DataMissingError('path=""; expected a table: a CSV, JSON lines or Parquet file')
        if not path.is_file():
            raise DataMissingError(f"path={options.path!r} is no file; expected a table")
        if path.suffix.lower() not in TABLE_SUFFIXES:
            suffixes = ", ".join(TABLE_SUFFIXES)
            raise DataMissingError(f"path={options.path!r}; expected a table: one of {suffixes}")

    def is_ready(self, options: FunctionsOptions, data_dir: Path) -> bool:
        """Return whether the table exists; True if the options name no table."""
        return not options.path or Path(options.path).expanduser().is_file()

    def prepare(self, options: FunctionsOptions, data_dir: Path, progress: Progress) -> None:
        """Check that the table exists; nothing is stored."""
        self.check_place(options)

    def open_source(self, options: FunctionsOptions, data_dir: Path) -> FunctionTable:
        """Read the table.

        Raises:
            DataMissingError: the table does not exist.
            DataError: a row, column or split is wrong; the message lists the first problems.
        """
        self.check_place(options)
        return read_functions(
            Path(options.path).expanduser(),
            task=options.task,
            x=options.x,
            y=options.y,
            split_column=options.split_column,
            split_fractions=options.split_fractions,
            split_seed=options.split_seed,
        )

    def digest(self, options: FunctionsOptions, data_dir: Path) -> str:
        """Return a hash of the file and of all options except its path."""
        self.check_place(options)
        facts = {name: asdict(options)[name] for name in _OPTIONS_OF_ROWS}
        facts["table"] = hash_file(Path(options.path).expanduser())
        return json_sha256(facts)

    def summarise(self, options: FunctionsOptions, data_dir: Path) -> DataSummary:
        """Return the numbers of tasks and rows."""
        source = self.open_source(options, data_dir)
        counts = {split: source.count_rows(split) for split in source.splits}
        n_rows = sum(sum(rows.values()) for rows in counts.values())
        return DataSummary(
            name=self.name,
            digest=self.digest(options, data_dir),
            licence=self.licence,
            origin=self.origin,
            splits={split: _split_summary(rows) for split, rows in counts.items()},
            modalities={
                name: ModalitySummary(shape, n_rows, "number")
                for name, shape in source.modalities.items()
            },
            facts=_facts(options),
            nouns=("task", "tasks", "rows"),
        )


def _split_summary(rows: Mapping[str, int]) -> SplitSummary:
    items = list(rows.values()) or [0]
    return SplitSummary(len(rows), sum(items), min(items), max(items), {}, {}, rows)


def _facts(options: FunctionsOptions) -> dict[str, str]:
    def listed(columns: Sequence[str]) -> str:
        return ", ".join(columns)

    return {"task": options.task, "x": listed(options.x), "y": listed(options.y)}
