"""Roles of the columns of a manifest: class, split, files, texts, numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metafleet.data.decoding.registry import get_decoder
from metafleet.data.importing.kinds import Kinds
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Place
from metafleet.data.importing.tables.naming import plain_name
from metafleet.data.importing.tables.table import Table
from metafleet.episode import CLASS_TEXT

_LABELS = ("label", "class", "class_name", "category", "intent", "target", "labels")
_SPLITS = ("split", "subset", "partition")
_FILES = ("file_name", "filename", "file", "path", "file_path", "filepath")
_TEXTS = ("text", "sentence", "caption", "transcription", "utterance", "description")
_LONGEST_PATH = 1024
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Roles:
    """The role of each column.

    Attributes:
        label: column that holds the class; "" for none.
        split: column that holds the split; "" for none.
        files: modality -> column of paths. If the name of the column contains a modality, this is
            the key. Otherwise the key is "".
        texts: modality -> column of sentences.
        numbers: modality -> columns of numbers.
        unused: the other columns.
    """

    label: str
    split: str
    files: Mapping[str, str]
    texts: Mapping[str, str]
    numbers: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...] = ()

    def by_name(self) -> dict[str, str]:
        """Return modality -> its column, or its columns joined by commas."""
        numbers = {name: ",".join(columns) for name, columns in self.numbers.items()}
        return {**self.files, **self.texts, **numbers}


def find_roles(tables: Sequence[Table], place: Place, log: ProblemLog) -> Roles | None:
    """Determine the roles of the columns. If that is impossible, log a fatal problem; return None.

    If the table is read for a model, a column with the name of one of the model's modalities gets
    this modality. Columns that the user names are then used in addition to the detected columns. If
    there is no model and the user names columns, only these columns are used.
    """
    ask = place.ask
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    where = ", ".join(table.file.name for table in tables)
    if not _knows_all(columns, ask, where, log):
        return None
    label = ask.label or _first(_LABELS, columns)
    if not label and place.is_labelled:
        log.add_fatal(
            "no-label-column",
            where,
            f"no column says the class; the columns are {_listed(columns)}; name it with --label",
        )
        return None
    split = ask.split_column or _first(_SPLITS, columns)
    others = [column for column in columns if column not in (label, split)]
    if ask.columns and not place.expected:
        roles = _mapped(ask.columns, tables, place.kinds)
    else:
        taken = {column for joined in ask.columns.values() for column in joined.split(",")}
        free = [column for column in others if column not in taken]
        named = _called_so(free, tables, place) | dict(ask.columns)
        roles = _recognised(free, tables, named, place.kinds)
    if not (roles.files or roles.texts or roles.numbers):
        log.add_fatal(
            "no-file-column",
            where,
            f"no column holds files or texts: none is called 'file_name' or 'text', or has names "
            f"of files; the columns are {_listed(columns)}; name one with --column, such as "
            f"--column image={(others or columns)[0]}, or --column table="
            f"{','.join((others or columns)[:2])} for numbers",
        )
        return None
    used = {*roles.files.values(), *roles.texts.values(), *sum(roles.numbers.values(), ())}
    unused = tuple(column for column in others if column not in used)
    return Roles(label, split, roles.files, roles.texts, roles.numbers, unused)


def _knows_all(columns: Sequence[str], ask: FolderOptions, where: str, log: ProblemLog) -> bool:
    asked = [("--label", ask.label), ("--split-column", ask.split_column)]
    asked += [
        (f"--column {modality}", column)
        for modality, joined in ask.columns.items()
        for column in joined.split(",")
    ]
    unknown = [(option, c) for option, c in asked if c and c not in columns]
    for option, column in unknown:
        log.add_fatal(
            "unknown-column",
            where,
            f"has no column {column!r}, which {option} names; its columns are {_listed(columns)}",
        )
    return not unknown


def _mapped(mapping: Mapping[str, str], tables: Sequence[Table], kinds: Kinds) -> Roles:
    files, texts, numbers = {}, {}, {}
    for modality, joined in mapping.items():
        columns = tuple(joined.split(","))
        is_joined = len(columns) > 1 or kinds.joins_columns(modality)
        if is_joined or _holds_lists(columns[0], tables):
            numbers[modality] = columns
        elif _holds_files(columns[0], tables, kinds):
            files[modality] = columns[0]
        else:
            texts[modality] = columns[0]
    return Roles("", "", files, texts, numbers)


def _recognised(
    columns: Sequence[str], tables: Sequence[Table], named: Mapping[str, str], kinds: Kinds
) -> Roles:
    """Detect files and texts, in addition to the columns in ``named``, modality -> column."""
    files, texts = {}, {}
    for column in columns:
        if column in named.values():
            continue
        if _names_files(column) or _holds_files(column, tables, kinds):
            files[_base_name(column)] = column
        elif column.lower() in _TEXTS:
            texts[column.lower()] = column
    if len(texts) == 1:  # built-in data sets call a single column of sentences "text"
        texts = dict(zip(["text"], texts.values(), strict=True))
    own = _mapped(named, tables, kinds)
    files = {name: column for name, column in files.items() if name not in named}
    texts = {name: column for name, column in texts.items() if name not in named}
    return Roles("", "", {**files, **own.files}, {**texts, **own.texts}, own.numbers)


def _called_so(columns: Sequence[str], tables: Sequence[Table], place: Place) -> dict[str, str]:
    """Return expected modality -> column, for the columns named like a modality."""
    found: dict[str, str] = {}
    for name, kind in place.expected.items():
        for column in columns:
            called = plain_name(stem_of(column))
            if called != name.removesuffix("_" if called == CLASS_TEXT else "") or name in found:
                continue
            if get_decoder(kind).joins_columns:
                fits = _holds_lists(column, tables)
            else:
                fits = get_decoder(kind).is_text or _holds_files(column, tables, place.kinds)
            if fits:
                found[name] = column
    return found


def stem_of(column: str) -> str:
    """Return a column's name without an ending for files: "front" for "front_path"."""
    name = column.lower()
    ends = [f"_{end}" for end in _FILES if name.endswith(f"_{end}")]
    return name.removesuffix(max(ends, key=len, default=""))


def _names_files(column: str) -> bool:
    return column.lower() in _FILES or column.lower().endswith("_file_name")


def _base_name(column: str) -> str:
    name = column.lower()
    return "" if name in _FILES else name.removesuffix("_file_name")


def _holds_files(column: str, tables: Sequence[Table], kinds: Kinds) -> bool:
    """Return whether most of the first values have a suffix that a decoder reads."""
    if _names_files(column):
        return True
    if any(isinstance(value, Mapping) and "bytes" in value for value in _values(column, tables)):
        return True
    values = [value for value in _values(column, tables) if isinstance(value, str) and value]
    paths = [v for v in values if len(v) < _LONGEST_PATH and "\n" not in v and kinds.of_name(v)]
    return 2 * len(paths) > len(values)


def _holds_lists(column: str, tables: Sequence[Table]) -> bool:
    values = [value for value in _values(column, tables) if value is not None]
    return bool(values) and all(isinstance(value, list) for value in values)


def _values(column: str, tables: Iterable[Table]) -> Iterator[Any]:
    for table in tables:
        for row in table.rows[:_LOOKED_AT]:
            yield row.values.get(column)


def _first(names: Iterable[str], columns: Sequence[str]) -> str:
    lower = {column.lower(): column for column in reversed(columns)}
    return next((lower[name] for name in names if name in lower), "")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns))
