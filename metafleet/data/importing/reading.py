"""Read a folder: find its items, classes, splits, modalities and problems."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from metafleet.data.importing.class_names import composed, find_twins, is_printable
from metafleet.data.importing.item import Item, Reading
from metafleet.data.importing.kinds import Kinds
from metafleet.data.importing.labels import tidied, with_each_label
from metafleet.data.importing.layouts.class_folders import (
    read_class_folders,
    read_flat,
    read_split_folders,
)
from metafleet.data.importing.layouts.detection import find_configurations, find_place
from metafleet.data.importing.layouts.easy_few_shot import read_easy_few_shot
from metafleet.data.importing.layouts.manifests import (
    read_huggingface,
    read_libfewshot,
    read_manifests,
)
from metafleet.data.importing.layouts.omniglot_folder import read_omniglot
from metafleet.data.importing.layouts.torchmeta import read_torchmeta
from metafleet.data.importing.layouts.walking import is_empty
from metafleet.data.importing.layouts.webdataset import read_webdataset
from metafleet.data.importing.links import links_out
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog, one_line
from metafleet.data.importing.reader import Found, Reader
from metafleet.data.importing.tables.columns import stem_of
from metafleet.data.importing.tables.naming import NamesAsked, name_modalities, plain_name
from metafleet.data.label_text import labels_in
from metafleet.errors import ConfigError, DataMissingError

READERS: Mapping[str, Reader] = {
    "huggingface": read_huggingface,
    "torchmeta": read_torchmeta,
    "webdataset": read_webdataset,
    "omniglot": read_omniglot,
    "libfewshot": read_libfewshot,
    "easy_few_shot": read_easy_few_shot,
    "manifest": read_manifests,
    "split_folders": read_split_folders,
    "class_folders": read_class_folders,
    "flat": read_flat,
}
"""Layout -> its reader."""

_LAYOUTS = (
    "a folder for each class, a manifest, metadata.csv, or another of docs/reference/folders.md"
)
_BY_FOLDERS = ("split_folders", "class_folders")
_LONGEST_LABEL = 200
_WITH_TABLE = ("huggingface", "manifest", "libfewshot")


def read_items(
    path: Path,
    ask: FolderOptions,
    *,
    is_labelled: bool = True,
    expected: Mapping[str, str] = MappingProxyType({}),
) -> Reading:
    """Read the contents of a folder, without decoding examples or writing anything.

    Args:
        path: a folder, or one manifest, archive or JSON file in it.
        ask: options that say how to read the folder. ``ask.path`` is ignored.
        is_labelled: whether every item must have a class. If False, classes are optional. The
            layout "flat", a folder of files without classes, can then be read as well; its files
            are items to predict.
        expected: the modalities of the model that will use the items, modality -> kind. If there is
            a model, and only one of its modalities fits a column, the column gets the name of this
            modality. If there is a model, columns that ``ask`` names are used in addition to the
            detected columns.

    Raises:
        ConfigError: the options name columns, but the layout has none.
        DataMissingError: the folder or file does not exist.
    """
    require_there(path)
    log = ProblemLog()
    kinds = Kinds((*ask.own_kinds, *expected.values()))
    place = find_place(path, ask, is_labelled=is_labelled, kinds=kinds)
    wrong = _nothing_fits(path, ask) if place is None else ""
    if ask.layout in ("auto", "huggingface") and (place is None or place[0] in _BY_FOLDERS):
        wrong = _undecided(path) or wrong  # otherwise configurations would be read as classes
    if place is None or wrong:
        log.add_fatal("no-layout", str(path), wrong)
        return Reading(ask.layout, (), {}, log.all())
    layout, what = place
    _refuse_columns(path, layout, ask, is_for_model=bool(expected))
    found = READERS[layout](replace(what, expected=expected), log)
    separator = ask.label_separator
    read = [_tidied(item, log, separator, is_labelled) for item in found.items]
    items = [item for item in read if item is not None]
    if separator and is_labelled and not expected and not _has_several(items, separator):
        log.add_fatal(
            "no-separator",
            str(path),
            f"no item has several labels: no label holds {separator!r}; give the separator of the "
            "label column, or leave --label-separator out",
        )
    items = _without_duplicates(items, log)
    fixed = _fixed(path, layout, ask, items, kinds)
    items, found_kinds, names = name_modalities(items, log, NamesAsked(fixed, expected, kinds))
    columns = {name: found.columns.get(column, column) for name, column in names.items()}
    notes = [
        f"modality {name!r} is {kinds.called(found_kinds[name])}, from column {column!r}"
        for name, column in columns.items()
        if column and name not in ask.columns and plain_name(stem_of(column)) != name
    ]
    if not found.items and not any(problem.is_fatal for problem in log.all()):
        log.add_fatal("no-layout", str(path), f"read as {layout}, it holds no example")
    aside = [*links_out(path, items), *_alike(with_each_label(items, separator))]
    notes = [f"layout: {layout}", *map(one_line, found.notes), *notes, *aside]
    return Reading(
        layout,
        tuple(items),
        found_kinds,
        log.all(),
        tuple(notes),
        _fingerprint(items),
        columns,
        _labels(found, separator),
        separator,
    )


def _labels(found: Found, separator: str) -> tuple[str, ...]:
    """Return the classes that were seen and whose names can be printed on one line."""
    texts = dict.fromkeys([*(item.label for item in found.items), *found.labels])
    seen = dict.fromkeys(label for text in texts for label in labels_in(text, separator))
    return tuple(dict.fromkeys(composed(name) for name in seen if name and not _unfit_label(name)))


def _refuse_columns(path: Path, layout: str, ask: FolderOptions, *, is_for_model: bool) -> None:
    """Refuse column names for a layout without columns: they would be ignored."""
    if layout in _WITH_TABLE:
        return
    asked = {"--label": ask.label, "--split-column": ask.split_column}
    separated = {} if is_for_model else {"--label-separator": ask.label_separator}
    if layout == "webdataset":
        asked = {}  # here both options name keys of `json`
    if not is_for_model:  # for a model, the kinds of the files serve as columns
        asked |= {"--column": next((f"{m}={c}" for m, c in ask.columns.items()), "")}
    for option, value in (asked | separated).items():
        if value:
            verb = "separates labels in" if option in separated else "names"
            raise ConfigError(
                f"{option} {value!r} {verb} a column, but {path} is read as {layout}, without a "
                f"table; leave {option} out, or give a table in its place"
            )


def _fixed(
    path: Path, layout: str, ask: FolderOptions, items: Sequence[Item], kinds: Kinds
) -> dict[str, str]:
    """Return column -> modality as the user gave it; for files without a table, kind -> modality.

    Raises:
        ConfigError: there are no files of a kind that the user named.
    """
    if layout in _WITH_TABLE:
        return {modality: modality for modality in ask.columns}
    there = list(dict.fromkeys(column for item in items for column in item.parts))
    named = {modality: kinds.called(kinds.find(c)) or c for modality, c in ask.columns.items()}
    for modality, column in named.items():
        if column not in there:
            raise ConfigError(
                f"--column {modality}={column}: {path} has no table, and no files that are "
                f"{column!r}; it has {', '.join(there) or 'none'}"
            )
    return {column: modality for modality, column in named.items()}


def require_there(path: Path) -> None:
    """Check that the path exists. Call this before any slower step.

    Raises:
        DataMissingError: the folder or file does not exist.
    """
    if not path.exists():
        raise DataMissingError(f"there is no folder or file {path}; check the path")


def _undecided(path: Path) -> str:
    """Return a request to choose one of several configurations in the Hub's layout; or ""."""
    configurations = find_configurations(path)
    if not configurations:
        return ""
    shown = ", ".join(map(repr, configurations))
    return (
        f"has Parquet shards in the folders {shown}, which may be configurations of the same rows; "
        f"name one, such as {path / configurations[0]}"
    )


def _nothing_fits(path: Path, ask: FolderOptions) -> str:
    if is_empty(path):
        return f"is an empty folder; expected {_LAYOUTS}"
    if ask.layout != "auto":
        see = "see docs/reference/folders.md, or leave --layout out"
        return f"is not laid out as {ask.layout!r}; {see}"
    return (
        f"has no layout that is known: expected {_LAYOUTS}. Files of one class go into a folder of "
        "its name, within the folder that is given; of several manifests, name one"
    )


def _tidied(item: Item, log: ProblemLog, separator: str, is_labelled: bool) -> Item | None:
    """Return an item with names in NFC; None, with a problem, if it is not usable."""
    before = len(log)
    if separator:
        item = tidied(item, separator, log if is_labelled else ProblemLog())
    is_usable = _is_sound(item, log, separator) and len(log) == before
    return _composed(item) if is_usable else None


def _has_several(items: Sequence[Item], separator: str) -> bool:
    return any(len(labels_in(item.label, separator)) > 1 for item in items)


def _is_sound(item: Item, log: ProblemLog, separator: str) -> bool:
    """Return whether an item is usable; log names that cannot be stored, and empty files."""
    before = len(log)
    if not _is_utf8(item.label):
        log.add("not-utf8", item.where, f"class {item.label!r} is not UTF-8; rename it")
    unfit = [it for it in labels_in(item.label, separator) if _unfit_label(it)]
    if unfit and _is_utf8(item.label):
        shown = f"{unfit[0][:40]!r} ({len(unfit[0])} characters)"
        log.add(
            "bad-label",
            item.where,
            f"class {shown}; expected printable text of at most {_LONGEST_LABEL}",
        )
    for part in item.parts.values():
        if not _is_utf8(part.name):
            log.add("not-utf8", item.where, f"the name {part.name!r} is not UTF-8; rename the file")
        if isinstance(part, FilePart) and part.n_bytes == 0:
            log.add("empty-file", item.where, f"{item.begin(part)}has 0 bytes; get or delete it")
    return len(log) == before


def _unfit_label(label: str) -> bool:
    return len(label) > _LONGEST_LABEL or not is_printable(label)


def _composed(item: Item) -> Item:
    return replace(item, label=composed(item.label), group=composed(item.group))


def _alike(items: Sequence[Item]) -> list[str]:
    """Return a note for each pair of classes with nearly the same name: they may be one class."""
    return [
        f"classes {first!r} and {second!r} differ in case or spaces alone; if they are one class, "
        "give both one name"
        for first, second in find_twins(item.label for item in items)
    ]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name with bytes that are not UTF-8
        return False
    return True


def _without_duplicates(items: Sequence[Item], log: ProblemLog) -> list[Item]:
    """Drop items with a file that an earlier item has in the same column."""
    seen: dict[tuple[str, Path], str] = {}
    kept = []
    for item in items:
        files = {(c, p.path): p.name for c, p in item.parts.items() if isinstance(p, FilePart)}
        twice = [key for key in files if key in seen]
        for key in twice:
            log.add(
                "duplicate-file", item.where, f"{files[key]} is also in {seen[key]}; drop one row"
            )
        if not twice:
            kept.append(item)
            seen |= dict.fromkeys(files, item.where)
    return kept


def _fingerprint(items: Sequence[Item]) -> str:
    sha = hashlib.sha256()
    for item in items:
        parts = "\0".join(f"{m}\0{p.name}\0{p.stamp}" for m, p in item.parts.items())
        sha.update(f"{item.label}\0{item.split}\0{item.group}\0{parts}\n".encode(errors="replace"))
    return sha.hexdigest()
