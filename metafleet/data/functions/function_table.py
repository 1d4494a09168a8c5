"""Functions given by the rows of a table, and episodes drawn from them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from metafleet.data.importing.layouts.split_names import find_split
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog, first_lines
from metafleet.data.importing.splits import hashed
from metafleet.data.importing.tables.table import Row, Table, number_of, read_table, text_of
from metafleet.episode import SPLITS, Episode, EpisodeShape, ExampleSet
from metafleet.episodes.source import EpisodeSource, check_counts
from metafleet.errors import ConfigError, DataError
from metafleet.seeds import CounterRng

MODALITY = "x"


class FunctionTable(EpisodeSource):
    """Draws episodes of functions that are given by table rows.

    An episode first draws a task from the tasks of its split that have at least ``k_shot +
    n_query`` rows. Tasks are sorted by their first rows in the table. The episode then draws
    ``k_shot + n_query`` different rows of the task. The first ``k_shot`` rows are the support set,
    and the others are the query set. Do not change the order of the draws, because another order
    would give other episodes.

    Args:
        name: name for messages.
        x: [rows, d] float32.
        y: [rows, values] float32.
        tasks: split -> task -> indices of its rows.
    """

    def __init__(
        self, name: str, x: Tensor, y: Tensor, tasks: Mapping[str, Mapping[str, Sequence[int]]]
    ) -> None:
        self._name, self._x, self._y = name, x, y
        self._tasks = {split: dict(of_split) for split, of_split in tasks.items()}

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Return the only modality, x."""
        return {MODALITY: (self._x.shape[1],)}

    @property
    def target_dim(self) -> int:
        """Return the number of target values per row."""
        return self._y.shape[1]

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that have tasks."""
        return tuple(split for split in SPLITS if self._tasks.get(split))

    def count_rows(self, split: str) -> dict[str, int]:
        """Return task -> number of rows."""
        return {task: len(rows) for task, rows in self._tasks.get(split, {}).items()}

    def n_classes(self, split: str) -> int:
        """Return 0, because regression has no classes."""
        return 0

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Refuse classes, empty sets, and more rows than any task has."""
        check_counts(shape)
        if split not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise ConfigError(f"{self._name} has no task in {split!r}; its splits are: {known}")
        if shape.n_way != 0:
            raise ConfigError(f"n_way={shape.n_way} but {self._name} is regression; set n_way=0")
        if not shape.is_ordinary:
            option, value = next(iter(shape.special().items()))
            raise ConfigError(
                f"{option}={value!r} but {self._name} has one modality and no classes; "
                f"remove {option}"
            )
        if not self._eligible(split, shape):
            most = max(self.count_rows(split).values())
            raise ConfigError(
                f"k_shot + n_query = {shape.k_shot + shape.n_query} rows, but the largest task of "
                f"{split!r} of {self._name} has {most}; lower n_query or k_shot"
            )

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses; x and y are float32 [n, d] and [n, values]."""
        tasks = self._eligible(split, shape)
        if not tasks:
            self.check(split, shape)
        (drawn,) = rng.sample(len(tasks), 1)
        chosen = rng.sample(len(tasks[drawn]), shape.k_shot + shape.n_query)
        rows = [tasks[drawn][number] for number in chosen]
        support, query = rows[: shape.k_shot], rows[shape.k_shot :]
        return Episode(
            support=ExampleSet({MODALITY: self._x[support]}, self._y[support]),
            query=ExampleSet({MODALITY: self._x[query]}, self._y[query]),
            n_way=0,
        )

    def _eligible(self, split: str, shape: EpisodeShape) -> list[Sequence[int]]:
        need = shape.k_shot + shape.n_query
        return [rows for rows in self._tasks.get(split, {}).values() if len(rows) >= need]


def read_functions(  # noqa: PLR0913 - columns and how they are split
    path: Path,
    *,
    task: str,
    x: Sequence[str],
    y: Sequence[str],
    split_column: str = "",
    split_fractions: Sequence[float] = (0.6, 0.2, 0.2),
    split_seed: int = 0,
) -> FunctionTable:
    """Read a table. For the arguments after ``path`` see ``FunctionsOptions``.

    Raises:
        DataError: a row, column or split is wrong; the message lists the first problems.
    """
    log = ProblemLog()
    stat = path.stat()
    table = read_table(FilePart(path, path.name, stat.st_size, stat.st_mtime_ns), log)
    wanted = [task, *x, *y, *([split_column] if split_column else [])]
    if table is not None:
        _require_columns(table, wanted, log)
    if table is None or log.fatal():
        raise _refusal(path, log)
    found = _Rows()
    for row in table.rows:
        found.add(row, task, [*x, *y], log)
    splits = hashed(found.of_task, split_seed, split_fractions)
    if split_column:
        splits = _given_splits(table.rows, task, split_column, log)
    if len(log) or not found.numbers:
        raise _refusal(path, log)
    numbers = torch.tensor(found.numbers, dtype=torch.float32)
    tasks = {
        split: {name: rows for name, rows in found.of_task.items() if splits[name] == split}
        for split in SPLITS
    }
    return FunctionTable(repr(path.name), numbers[:, : len(x)], numbers[:, len(x) :], tasks)


@dataclass(slots=True)
class _Rows:
    """The rows read so far: their numbers, and the row indices of each task."""

    numbers: list[list[float]] = field(default_factory=list)
    of_task: dict[str, list[int]] = field(default_factory=dict)

    def add(self, row: Row, task: str, columns: Sequence[str], log: ProblemLog) -> None:
        """Add a row, or log its problem."""
        name, numbers = text_of(row.values.get(task)), _numbers(row, columns, log)
        if not name:
            log.add("empty-label", row.where, f"has no {task!r}; expected the name of a function")
        elif numbers is not None:
            self.of_task.setdefault(name, []).append(len(self.numbers))
            self.numbers.append(numbers)


def _require_columns(table: Table, wanted: Sequence[str], log: ProblemLog) -> None:
    for column in wanted:
        if column not in table.columns:
            known = ", ".join(map(repr, table.columns))
            log.add_fatal(
                "unknown-column",
                table.file.name,
                f"has no column {column!r}; its columns are {known}; name others with data.task, "
                "data.x, data.y and data.split_column",
            )


def _numbers(row: Row, columns: Sequence[str], log: ProblemLog) -> list[float] | None:
    """Return the numbers of a row; None, with problems, if one is invalid."""
    before, values = len(log), []
    for column in columns:
        cell = row.values.get(column)
        number = number_of(cell)
        if number is None:
            point = ", with a point for decimals" if isinstance(cell, str) and "," in cell else ""
            log.add(
                "bad-number", row.where, f"{column}={cell!r:.40}; expected a finite number{point}"
            )
        else:
            values.append(number)
    return values if len(log) == before else None


def _given_splits(rows: Iterable[Row], task: str, column: str, log: ProblemLog) -> dict[str, str]:
    """Return task -> split, as given by a column; log tasks with no split or several."""
    said: dict[str, Counter[str]] = {}
    for row in rows:
        name, text = text_of(row.values.get(task)), text_of(row.values.get(column)) or ""
        split = find_split(text)
        if split and name:
            said.setdefault(name, Counter())[split] += 1
        elif text:
            expected = "expected train, val or test"
            log.add("unknown-split", row.where, f"{column}={text!r:.40}; {expected}")
        elif name:
            said.setdefault(name, Counter())
    if len(said) > 1 and all(len(found) > 1 for found in said.values()):
        log.add_fatal(
            "label-in-two-splits",
            column,
            f"has several splits for the rows of each of {len(said)} tasks; a function is learned "
            "or judged, never both: leave split_column out, and tasks are hashed",
        )
        return dict.fromkeys(said, "")
    return {name: _only(name, found, log) for name, found in said.items()}


def _only(name: str, found: Mapping[str, int], log: ProblemLog) -> str:
    if len(found) == 1:
        return next(iter(found))
    if not found:
        log.add("unknown-split", f"task {name!r}", "has no row that says its split; say it")
        return ""
    counts = ", ".join(f"{n} in {split}" for split, n in sorted(found.items()))
    log.add(
        "label-in-two-splits",
        f"task {name!r}",
        f"has rows in several splits, {counts}; a function is learned or judged, never both",
    )
    return ""


def _refusal(path: Path, log: ProblemLog) -> DataError:
    problems = log.all()
    if not problems:
        return DataError(f"{path} has no row; expected a header and rows")
    return DataError("\n".join([f"{path} cannot be learned from:", *first_lines(problems)]))
