"""A table of items whose predictions are doubtful. A person fills in the labels of the items.

    item,guess,probability,labels,unknown,label,folder
    cat/7.png,cat,0.41,cat | dog,no,,/home/me/photos

The most doubtful items come first. A person writes an item's class into the column ``label``, or
leaves it empty.
"""

import csv
import difflib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from metafleet.data.importing.class_names import plain
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.spreadsheet import as_text
from metafleet.data.importing.tables.table import Row, Table, read_table
from metafleet.errors import DataError, DataMissingError, ModelError
from metafleet.inference.files import check_new_file, write_new_file
from metafleet.inference.prediction import LABELS_BETWEEN, Prediction

_SUFFIX: Final = ".csv"
_COLUMNS: Final = ("item", "guess", "probability", "labels", "unknown", "label", "folder")
_NEEDED: Final = ("item", "label", "folder")
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Correction:
    """The label that a person gave an item.

    Attributes:
        where: the row of the queue, such as "queue.csv:3".
        item: name of the item in its folder, as in predictions.
        label: the item's class.
        folder: the folder in which the item was predicted.
    """

    where: str
    item: str
    label: str
    folder: Path


def check_queue(path: Path, *, force: bool) -> None:
    """Check that a queue may be written to ``path``. Call this before predicting.

    Raises:
        ModelError: the path has a wrong suffix or exists already, or its folder does not exist.
    """
    if path.suffix.lower() != _SUFFIX:
        raise ModelError(f"--ask {path} is no {_SUFFIX}; give it this suffix")
    check_new_file(path, force=force)


def write_queue(rows: Sequence[Prediction], folder: Path, path: Path, *, force: bool) -> int:
    """Write the doubtful items to a queue, the most doubtful first.

    Args:
        rows: all predictions.
        folder: the folder that contains the predicted items.
        path: path of the queue.
        force: whether to replace an existing file.

    Returns:
        The number of doubtful items.

    Raises:
        ModelError: the file exists or cannot be written.
    """
    check_queue(path, force=force)
    asked = sorted((row for row in rows if row.asks_a_person), key=lambda row: row.probability)
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    place = str(folder.expanduser().absolute())
    writer.writerows({**_row(row), "folder": as_text(place)} for row in asked)
    write_new_file(path, out.getvalue().encode())
    return len(asked)


def _row(row: Prediction) -> dict[str, Any]:
    labels, unknown = row.doubt.labels, row.doubt.unknown
    return {
        "item": as_text(row.item),
        "guess": as_text(row.label),
        "probability": round(row.probability, 6),
        "labels": as_text(LABELS_BETWEEN.join(labels or ())),
        "unknown": "" if unknown is None else ("yes" if unknown else "no"),
        "label": "",
    }


def read_queue(path: Path, classes: Collection[str]) -> tuple[list[Correction], int]:
    """Read the labels that a person filled in.

    Args:
        path: path of the queue.
        classes: the classes that labels may name.

    Returns:
        The labels of the rows that have one, and the number of rows without a label.

    Raises:
        DataMissingError: the file does not exist.
        DataError: the file is not a queue, a label is not a class, an item has two labels, or
            no row has a label.
    """
    table = _table(path)
    missing = [column for column in _NEEDED if column not in table.columns]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}; expected {', '.join(_COLUMNS)}, as `metafleet "
            "predict MODEL FOLDER --ask QUEUE` writes them"
        )
    if not table.rows:
        raise DataError(f"{path} has no row; `metafleet predict MODEL FOLDER --ask QUEUE` fills it")
    found: dict[tuple[Path, str], Correction] = {}
    n_open = 0
    for row in table.rows:
        correction = _correction(row, classes)
        if not correction.label:
            n_open += 1
            continue
        known = found.setdefault((correction.folder, correction.item), correction)
        if known.label != correction.label:
            raise DataError(
                f"{correction.where}: item {correction.item!r:.80} is {correction.label!r:.40} "
                f"here and {known.label!r:.40} at {known.where}; expected one label"
            )
    if not found:
        raise DataError(
            f"{path}: none of {len(table.rows)} rows has a label; write {_listed(classes)} into "
            "the column 'label'"
        )
    return list(found.values()), n_open


def require_queue(path: Path) -> None:
    """Check that the file exists. Call this before anything else is read.

    Raises:
        DataMissingError: the file does not exist.
        DataError: the file has a wrong suffix.
    """
    if not path.is_file():
        raise DataMissingError(f"there is no file {path}; check the path of the queue")
    if path.suffix.lower() != _SUFFIX:
        raise DataError(f"{path} is no queue; expected a {_SUFFIX} file")


def _table(path: Path) -> Table:
    require_queue(path)
    log, stat = ProblemLog(), path.stat()
    table = read_table(FilePart(path, path.name, stat.st_size, stat.st_mtime_ns), log)
    if table is None or len(log):
        raise DataError(f"{path} cannot be read: {log.all()[0]}")
    return table


def _correction(row: Row, classes: Collection[str]) -> Correction:
    item, label, folder = (row.values[column] for column in _NEEDED)
    label = _class_of(row.where, label, classes) if label.strip() else ""
    if label and not (item.strip() and folder.strip()):
        empty = "folder" if item.strip() else "item"
        raise DataError(f"{row.where}: has a label, but its column {empty!r} is empty")
    return Correction(row.where, item, label, Path(folder))


def _class_of(where: str, label: str, classes: Collection[str]) -> str:
    """Return the class that a label names. Upper and lower case and spaces need not agree."""
    alike = [name for name in classes if plain(name) == plain(label)]
    if label in classes or len(alike) == 1:
        return label if label in classes else alike[0]
    near = difflib.get_close_matches(label, classes, n=1)
    hint = f"did you mean {near[0]!r:.60}?" if near else f"expected {_listed(classes)}, or nothing"
    raise DataError(f"{where}: label {label!r:.60} is no class of the model; {hint}")


def _listed(classes: Collection[str]) -> str:
    shown = [repr(name) for name in list(classes)[:_SHOWN]]
    more = len(classes) - len(shown)
    return " or ".join([*shown, f"one of {more} more"] if more else shown)
