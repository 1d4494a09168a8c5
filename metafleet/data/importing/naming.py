"""From columns to modalities: every column gets the kind of its own files, and a name.

A modality that is the only one of its kind is called like its kind, whatever its column is called,
so that a configuration for ``image`` and ``audio`` fits any folder that has both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from metafleet.data.importing.item import Item
from metafleet.data.importing.kinds import KINDS, kind_of, kinds_of, known_suffixes, majority
from metafleet.data.importing.problems import ProblemLog
from metafleet.episode import CLASS_TEXT


def name_modalities(
    items: Sequence[Item], log: ProblemLog, *, fixed: Sequence[str]
) -> tuple[list[Item], dict[str, str], list[str]]:
    """Type and name the columns.

    Args:
        items: their parts by column.
        log: takes the items whose files no decoder reads, or another than their column's.
        fixed: columns that are called as they shall be.

    Returns:
        The items with parts by modality, modality -> kind, and what is worth saying.
    """
    found = [_with_kinds(item) for item in items]
    columns = list(dict.fromkeys(column for kinds in found for column in kinds))
    kind_of_column = {
        column: majority([kinds[column] for kinds in found if column in kinds])
        for column in columns
    }
    kept = [
        item
        for item, kinds in zip(items, found, strict=True)
        if _is_sound(item, kinds, kind_of_column, log)
    ]
    names = _names(kind_of_column, fixed)
    modalities = {name: kind_of_column[column] for column, name in names.items()}
    # by name within a kind: options lose the order of their tables on the way to a worker
    ordered = dict(sorted(modalities.items(), key=lambda pair: (KINDS.index(pair[1]), pair[0])))
    notes = [
        f"modality {name!r} is {kind_of_column[column]}, from column {column!r}"
        for column, name in names.items()
        if name != column and column
    ]
    renamed = [
        replace(item, parts={names[column]: part for column, part in item.parts.items()})
        for item in kept
    ]
    return renamed, ordered, notes


def _with_kinds(item: Item) -> dict[str, str]:
    return {column: kind_of(part, hint=column) for column, part in item.parts.items()}


def _is_sound(
    item: Item, kinds: Mapping[str, str], expected: Mapping[str, str], log: ProblemLog
) -> bool:
    is_sound = True
    for column, part in item.parts.items():
        wanted = expected[column]
        if not kinds[column]:
            suffix = PurePosixPath(part.name).suffix
            log.add(
                "unknown-type",
                item.where,
                f"no decoder reads {suffix!r} of {part.name}; expected one of {known_suffixes()}",
            )
        elif wanted not in kinds_of(part.name):
            log.add(
                "mixed-types",
                item.where,
                f"{item.begin(part)}is {kinds[column]} in a column of {wanted}; "
                "give it its own column",
            )
        else:
            continue
        is_sound = False
    return is_sound


def _names(kinds: Mapping[str, str], fixed: Sequence[str]) -> dict[str, str]:
    """Return column -> modality; columns whose files nothing reads get none."""
    typed = {column: kind for column, kind in kinds.items() if kind}
    names: dict[str, str] = {}
    for column, kind in typed.items():
        alone = list(typed.values()).count(kind) == 1 and kind not in fixed
        name = column if column in fixed else kind if alone else _plain(column) or kind
        while name in names.values() or name == CLASS_TEXT:  # that of class names in episodes
            name += "_"
        names[column] = name
    return names


def _plain(column: str) -> str:
    """Make a name of small letters, digits and _, starting with a letter; "" if none is left."""
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_0123456789")[:39]
