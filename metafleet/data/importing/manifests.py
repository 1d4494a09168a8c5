"""Tables that name files: any CSV, TSV, JSON lines or Parquet, Hugging Face's, LibFewShot's.

pets.csv              photo,sound,species         a manifest; all splits, or one file for each
metadata.jsonl        {"file_name": ..., "label": ...}     Hugging Face, also in train/, test/
images/, train.csv    filename,label              LibFewShot: paths are relative to images/
"""

from collections.abc import Callable
from pathlib import PurePosixPath

from metafleet.data.importing.columns import Roles, find_roles
from metafleet.data.importing.item import Item
from metafleet.data.importing.part import find_file
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place
from metafleet.data.importing.rows import RowReader
from metafleet.data.importing.split_names import find_split
from metafleet.data.importing.table import Table, read_table

_Says = Callable[[PurePosixPath], str]


def read_manifests(place: Place, log: ProblemLog) -> Found:
    """Read tables; one called train, val or test gives its rows that split."""
    return _read(place, log, split_name=lambda path: path.stem, bases=("",))


def read_huggingface(place: Place, log: ProblemLog) -> Found:
    """Read metadata.*; one in a folder train, val or test gives its rows that split.

    Paths are relative to the table. Every column has the kind of its own files.
    """
    return _read(place, log, split_name=lambda path: path.parent.name, bases=("",))


def read_libfewshot(place: Place, log: ProblemLog) -> Found:
    """Read {train,val,test}.csv with paths relative to images/."""
    return _read(place, log, split_name=lambda path: path.stem, bases=("images", ""))


def _read(place: Place, log: ProblemLog, *, split_name: _Says, bases: tuple[str, ...]) -> Found:
    tables = []
    for name in place.files:
        file = find_file(place.folder, name)
        if file is None:
            log.add_fatal("missing-file", name, "is not there")
            continue
        table = read_table(file, log)
        if table is not None:
            tables.append(table)
    roles = find_roles(tables, place.ask, log, labelled=place.is_labelled) if tables else None
    if roles is None:
        return Found([], [])
    items: list[Item] = []
    for table in tables:
        path = PurePosixPath(table.file.name)
        here = tuple(str(path.parent / base) for base in bases)
        reader = RowReader(place.folder, roles, log, here, place.is_labelled)
        items += reader.read(table, split=find_split(split_name(path)))
    return Found(items, _notes(tables, roles))


def _notes(tables: list[Table], roles: Roles) -> list[str]:
    notes = [f"read {', '.join(table.file.name for table in tables)}"]
    if roles.label:
        notes.append(f"classes are in column {roles.label!r}")
    if roles.split:
        notes.append(f"splits are in column {roles.split!r}")
    if roles.unused:
        names = ", ".join(map(repr, roles.unused))
        notes.append(f"columns that are not used: {names}; use one with --column MODALITY=COLUMN")
    return notes
