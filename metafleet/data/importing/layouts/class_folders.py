"""A folder per class, or {train,val,test}/<class>, as in MAML++ and torchvision.

cat/001.png  cat/001.wav  cat/001.txt      one item: files of several kinds with one stem
cat/002.png                                an item without sound and text
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.split_names import find_split
from metafleet.data.importing.layouts.walking import files_below, files_in, folders_in
from metafleet.data.importing.part import FilePart, Part, find_file
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place


def read_class_folders(place: Place, log: ProblemLog) -> Found:
    """Read <class>/*; every file below a class's folder, at any depth, belongs to the class."""
    items = []
    for name in folders_in(place.folder):
        items += _read_folder(place, name, log, label=name)
    notes = [*_left_aside(files_in(place.folder)), *_deeper(items, 1)]
    return Found(items, notes, labels=tuple(folders_in(place.folder)))


def read_split_folders(place: Place, log: ProblemLog) -> Found:
    """Read {train,val,test}/<class>/*."""
    items, labels = [], []
    aside = files_in(place.folder)
    for split_name in folders_in(place.folder):
        split = find_split(split_name)
        if not split:
            log.add(
                "unknown-split",
                split_name,
                "is a folder next to those of splits; expected train, val or test",
            )
            continue
        aside += files_in(place.folder / split_name)
        for name in folders_in(place.folder / split_name):
            labels.append(name)
            items += _read_folder(place, f"{split_name}/{name}", log, label=name, split=split)
    return Found(items, [*_left_aside(aside), *_deeper(items, 2)], labels=tuple(labels))


def read_flat(place: Place, log: ProblemLog) -> Found:
    """Read the files of one folder without classes: all of them, or those that are named."""
    named = [find_file(place.folder, name) for name in place.files]
    files = filter(None, named) if named else files_below(place.folder, "", log)
    return Found(list(read_class(files, place, log, label="")), [])


def read_class(
    files: Iterable[FilePart],
    place: Place,
    log: ProblemLog,
    *,
    label: str,
    split: str = "",
    group: str = "",
) -> Iterator[Item]:
    """Yield the items of one class: files of different kinds with the same stem are one item."""
    by_stem: dict[str, dict[str, Part]] = {}
    for file in files:
        kind = place.kinds.called(place.kinds.of_part(file))
        if not kind:
            log.add(
                "unknown-type",
                file.name,
                f"no decoder reads {PurePosixPath(file.name).suffix!r}; expected one of "
                f"{place.kinds.suffixes()}",
            )
            continue
        stem = file.name[: -len(PurePosixPath(file.name).suffix)]
        if kind in by_stem.get(stem, {}):
            stem = file.name  # a second file of the same kind and stem is a separate item
        by_stem.setdefault(stem, {})[kind] = file
    for parts in by_stem.values():
        yield Item(_first_name(parts), label, parts, split, group)


def _read_folder(
    place: Place, folder: str, log: ProblemLog, *, label: str, split: str = ""
) -> list[Item]:
    """Read the folder of a class; an empty one is a problem, because a class is missing."""
    before = len(log)
    files = files_below(place.folder, folder, log)
    items = list(read_class(files, place, log, label=label, split=split))
    if not items and len(log) == before and place.is_labelled:
        log.add("small-class", f"class {label!r}", "has no example: add some, or delete the folder")
    return items


def _first_name(parts: Mapping[str, Part]) -> str:
    return next(iter(parts.values())).name


def _left_aside(names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names)} files outside the folders of classes are not read, such as {names[0]}"]


def _deeper(items: Sequence[Item], depth: int) -> list[str]:
    """Return a note that folders inside class folders, which are at ``depth``, are not classes."""
    deeper = [item for item in items if item.where.count("/") > depth]
    if not deeper:
        return []
    return [
        f"folders within those of classes: {len(deeper)} items, such as {deeper[0].where}, which "
        f"is of class {deeper[0].label!r}; move folders up that are classes of their own"
    ]
