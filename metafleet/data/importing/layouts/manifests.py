"""Tables that name files, as CSV, TSV, JSON lines or Parquet, in four layouts.

pets.csv              photo,sound,species         a manifest: all splits, or one file per split
metadata.jsonl        {"file_name": ..., "label": ...}     Hugging Face, also in train/, test/
data/train-00000-of-00002.parquet    shards of the Hub: files in the cells, numbered classes
images/, train.csv    filename,label              LibFewShot: paths are relative to images/
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath

from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.rows import RowReader
from metafleet.data.importing.layouts.split_names import find_split, shard_name, shard_numbers
from metafleet.data.importing.part import find_file
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place
from metafleet.data.importing.tables.columns import Roles, find_roles
from metafleet.data.importing.tables.table import Table, read_tables

_Says = Callable[[PurePosixPath], str]
_SHOWN_SHARDS = 5


def read_manifests(place: Place, log: ProblemLog) -> Found:
    """Read tables; the rows of a table named train, val or test are in that split."""
    return _read(place, log, split_name=lambda path: path.stem, bases=("",))


def read_huggingface(place: Place, log: ProblemLog) -> Found:
    """Read a folder's tables ``metadata.*``, or its shards.

    The name of the shard or of the folder contains the split of the rows.

    Paths are relative to the table. The kind of a column is the kind of its files.
    """
    place = _with_known_splits(place, log)
    _note_missing_shards(place.files, log)
    return _read(place, log, split_name=_hub_split, bases=("",))


def _hub_split(path: PurePosixPath) -> str:
    """Return the split in a shard's name, or the folder's name if only that is a split."""
    named, folder = shard_name(path.name), path.parent.name
    return folder if not named or (find_split(folder) and not find_split(named)) else named


def _note_missing_shards(files: Sequence[str], log: ProblemLog) -> None:
    """Log missing shards: each shard's name gives its number and the total."""
    found: dict[tuple[str, int], set[int]] = {}
    for name in files:
        number, total = shard_numbers(PurePosixPath(name).name)
        if total > 1:
            path = PurePosixPath(name)
            split = str(path.with_name(shard_name(path.name)))
            found.setdefault((split, total), set()).add(number)
    for (split, total), there in found.items():
        begin = int(total in there and 0 not in there)  # some count from 1
        all_of_them = range(begin, begin + total)
        absent = (number for number in all_of_them if number not in there)
        n_absent = total - sum(number in all_of_them for number in there)
        if n_absent:
            are, them = ("is", "it") if n_absent == 1 else ("are", "them")
            first = ", ".join(f"{number:05}" for number in islice(absent, _SHOWN_SHARDS))
            log.add(
                "missing-file",
                f"{split}-*-of-{total:05}.parquet",
                f"{n_absent} of {total} shards of {PurePosixPath(split).name!r} {are} missing: "
                f"{first}{', ...' if n_absent > _SHOWN_SHARDS else ''}; download {them}",
            )


def _with_known_splits(place: Place, log: ProblemLog) -> Place:
    """Leave out shards of splits other than train, val and test if there are shards of these."""
    splits = {name: _hub_split(PurePosixPath(name)) for name in place.files}
    known = tuple(name for name, split in splits.items() if find_split(split))
    others = [name for name in place.files if name not in known and shard_name(name)]
    if not known or not others:
        return place
    for name in others:
        log.add(
            "unknown-split",
            name,
            f"is a shard of {splits[name]!r}; expected train, val or test: rename or move the file",
        )
    return replace(place, files=known)


def read_libfewshot(place: Place, log: ProblemLog) -> Found:
    """Read {train,val,test}.csv with paths relative to images/."""
    return _read(place, log, split_name=lambda path: path.stem, bases=("images", ""))


def _read(place: Place, log: ProblemLog, *, split_name: _Says, bases: tuple[str, ...]) -> Found:
    files = []
    for name in place.files:
        file = find_file(place.folder, name)
        if file is None:
            log.add_fatal("missing-file", name, "is not there")
        else:
            files.append(file)
    tables = read_tables(files, log)
    roles = find_roles(tables, place, log) if tables else None
    if roles is None:
        return Found([], [])
    items: list[Item] = []
    labels: list[str] = []
    for table in tables:
        path = PurePosixPath(table.file.name)
        here = tuple(str(path.parent / base) for base in bases)
        reader = RowReader(place.folder, roles, log, here, place.is_labelled)
        items += reader.read(table, split=find_split(split_name(path)))
        labels += reader.labels
    return Found(items, _notes(tables, roles), roles.by_name(), tuple(labels))


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
