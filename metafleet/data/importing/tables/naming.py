"""Map columns to modalities. Each modality has a name, and the kind of the column's files.

A modality that is the only one of its kind is named after the kind, whatever its column is called.
A configuration for ``image`` and ``audio`` therefore fits any folder that has both. If a column is
read for a model, it gets the name of one of the model's modalities. If a modality of the model has
the column's name, this modality is chosen. Otherwise, if the model has only one modality of the
column's kind, this modality is chosen.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from metafleet.data.importing.item import Item
from metafleet.data.importing.kinds import Kinds
from metafleet.data.importing.problems import ProblemLog
from metafleet.episode import CLASS_TEXT


@dataclass(frozen=True, slots=True)
class NamesAsked:
    """Requested names of modalities.

    Attributes:
        fixed: column -> modality, as given by the user.
        expected: the modalities of the model that will use the items, modality -> kind; {} if there
            is no model.
        kinds: the kinds that files may have.
    """

    fixed: Mapping[str, str]
    expected: Mapping[str, str]
    kinds: Kinds

    def hint(self, column: str) -> str:
        """Return the kind that a column should have if that is known; otherwise its name."""
        if column in self.fixed:
            return self.kind(column) or column
        return self.expected.get(column, column)

    def kind(self, column: str) -> str:
        """Return the kind that the user's name for a column's modality implies; "" if none."""
        modality = self.fixed.get(column, "")
        return self.expected.get(modality, self.kinds.find(modality))


def name_modalities(
    items: Sequence[Item], log: ProblemLog, ask: NamesAsked
) -> tuple[list[Item], dict[str, str], dict[str, str]]:
    """Determine the kinds of the columns, and name the modalities.

    Args:
        items: items whose parts are keyed by column.
        log: log for items with files that no decoder reads, or that the decoder of their column
            does not read.
        ask: the requested names.

    Returns:
        Three things: the items, with parts keyed by modality; modality -> kind; modality -> column.
    """
    found = [_with_kinds(item, ask) for item in items]
    columns = list(dict.fromkeys(column for kinds in found for column in kinds))
    kind_of_column = {}
    for column in columns:
        kinds_here = [kinds[column] for kinds in found if column in kinds]
        wanted = ask.kind(column)
        kind_of_column[column] = wanted if wanted in kinds_here else ask.kinds.majority(kinds_here)
        if wanted not in ("", *kinds_here):
            _refuse_kind(ask, column, kind_of_column[column], log)
    kept = [
        item
        for item, kinds in zip(items, found, strict=True)
        if _is_sound(item, kinds, kind_of_column, ask.kinds, log)
    ]
    names = _names(kind_of_column, ask)
    modalities = {name: kind_of_column[column] for column, name in names.items()}
    # by name within a kind: option tables lose their order on the way to a worker
    ordered = dict(sorted(modalities.items(), key=lambda pair: (ask.kinds.rank(pair[1]), pair[0])))
    renamed = [
        replace(item, parts={names[column]: part for column, part in item.parts.items()})
        for item in kept
    ]
    return renamed, ordered, {name: column for column, name in names.items()}


def _refuse_kind(ask: NamesAsked, column: str, kind: str, log: ProblemLog) -> None:
    """Refuse a column that holds nothing of the kind that the user asked for."""
    modality = ask.fixed[column]
    wanted, found = ask.kinds.called(ask.kind(column)), ask.kinds.called(kind)
    log.add_fatal(
        "other-kind",
        f"modality {modality!r}",
        f"was asked for as {wanted}, and its column holds {found or 'no kind that is known'}; name "
        f"a column of {wanted}, or call the modality otherwise",
    )


def _with_kinds(item: Item, ask: NamesAsked) -> dict[str, str]:
    return {
        column: ask.kinds.of_part(part, hint=ask.hint(column))
        for column, part in item.parts.items()
    }


def _is_sound(
    item: Item,
    kinds: Mapping[str, str],
    expected: Mapping[str, str],
    known: Kinds,
    log: ProblemLog,
) -> bool:
    is_sound = True
    for column, part in item.parts.items():
        wanted = expected[column]
        if not kinds[column]:
            suffix = PurePosixPath(part.name).suffix
            log.add(
                "unknown-type",
                item.where,
                f"no decoder reads {suffix!r} of {part.name}; expected one of {known.suffixes()}",
            )
        elif wanted not in known.of_name(part.name):
            log.add(
                "mixed-types",
                item.where,
                f"{item.begin(part)}is {known.called(kinds[column])} in a column of "
                f"{known.called(wanted)}; give it its own column",
            )
        else:
            continue
        is_sound = False
    return is_sound


def _names(kinds: Mapping[str, str], ask: NamesAsked) -> dict[str, str]:
    """Return column -> modality; columns whose files no decoder reads get none."""
    typed = {column: kind for column, kind in kinds.items() if kind}
    names = {column: name for column, name in ask.fixed.items() if column in typed}
    names |= _expected_names(typed, names, ask.expected)
    for column, kind in typed.items():
        if column in names:
            continue
        called = ask.kinds.called(kind)
        alone = list(typed.values()).count(kind) == 1 and called not in names.values()
        name = called if alone else plain_name(column) or called
        # class_text is reserved for class names in episodes
        while name in names.values() or name in ask.expected or name == CLASS_TEXT:
            name += "_"
        names[column] = name
    return names


def _expected_names(
    kinds: Mapping[str, str], named: Mapping[str, str], expected: Mapping[str, str]
) -> dict[str, str]:
    """Return column -> modality of the model, for columns whose match is unambiguous."""
    found = {
        column: column
        for column, kind in kinds.items()
        if column not in named and column not in named.values() and expected.get(column) == kind
    }
    for modality, kind in expected.items():
        alike = [name for name, of in expected.items() if of == kind]
        left = [c for c, of in kinds.items() if of == kind and c not in (*named, *found)]
        if len(left) == len(alike) == 1 and modality not in (*named.values(), *found):
            found[left[0]] = modality
    return found


def plain_name(column: str) -> str:
    """Return a name of lower-case letters, digits and _, starting with a letter; "" if empty."""
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_0123456789")[:39]
