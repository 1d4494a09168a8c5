"""Reading and decoding of a folder of examples for a model."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metafleet.data.decoding.encoded_columns import encode_columns
from metafleet.data.importing.decoding import decode_items, item_columns
from metafleet.data.importing.item import Item, Reading
from metafleet.data.importing.levels import say_lost_levels
from metafleet.data.importing.links import LINKS
from metafleet.data.importing.options import FolderOptions, Layout
from metafleet.data.importing.problems import DataProblem, ProblemLog, counted, first_lines
from metafleet.data.importing.reading import read_items
from metafleet.data.summary import Progress, no_progress
from metafleet.errors import ConfigError, DataError
from metafleet.inference.brightness import looks_inverted
from metafleet.inference.decoded_items import Items
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.requirements import Needs

_ADAPT_AGAIN = "adapt again"
_TRAIN_AGAIN = "start from a run or model that was made with these"
_AS_TRAINED = "the range is that of training; import the training data with another {kind}.range"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a folder; see docs/reference/folders.md.

    Attributes:
        layout: layout of the folder; "auto" detects it from the content.
        label: column that holds the class. With "", a column called ``label``, ``class`` or similar
            is used.
        columns: modality -> its column. A column needs no entry if its name is that of a modality,
            or if it is the only column of its kind. For a folder without a table: modality -> kind
            of the modality's files.
        skip_bad: whether to leave out broken items. With False, any broken item is an error.
        invert: whether to swap light and dark in pictures, both in adaptation and in predictions of
            the adapted model. With False, pictures are not swapped. With None, pictures are not
            swapped but checked: if they look inverted compared with training, adaptation fails and
            prediction adds a note.
        only: names of the items to read, in the form that predictions have; () for all items.
        label_separator: for a model of items with several labels, the text between the labels of an
            item. "" selects the separator of the training data.
    """

    layout: Layout = "auto"
    label: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    skip_bad: bool = False
    invert: bool | None = None
    only: tuple[str, ...] = ()
    label_separator: str = ""


def with_separator(options: ReadOptions, trained_with: str) -> ReadOptions:
    """Return options with a label separator: the user's, or else the one of the training data.

    Args:
        options: the user's options.
        trained_with: the separator of the training data; "" if an item has one class.

    Raises:
        ConfigError: the options have a separator, but the model has one class per item.
    """
    if options.label_separator and not trained_with:
        raise ConfigError(
            f"label_separator={options.label_separator!r}, but the model gives an item one class; "
            "leave it out, or train on items with several labels"
        )
    return replace(options, label_separator=options.label_separator or trained_with)


def check_invert(options: ReadOptions, specs: Mapping[str, InputSpec], needs: Needs) -> None:
    """Raise an error if ``options.invert`` is not None but the model uses no pictures.

    Raises:
        ConfigError: the model uses no pictures; the message lists its modalities.
    """
    if options.invert is None:
        return
    if not any(name in specs and specs[name].is_picture for name in needs.known):
        option = "--invert" if options.invert else "--no-invert"
        raise ConfigError(
            f"{option} is about pictures, but the model looks at {', '.join(needs.known)} and at "
            "no picture; leave it out"
        )


def names_in(folder: Path, specs: Mapping[str, InputSpec], options: ReadOptions) -> tuple[str, ...]:
    """Return the sorted names of a folder's classes. No example is read.

    Raises:
        DataError: an item has no class, or the folder has no known layout.
        DataMissingError: the folder does not exist.
    """
    kinds = {name: spec.kind for name, spec in specs.items()}
    reading = read_items(folder, _ask(options), is_labelled=True, expected=kinds)
    _refuse(folder, reading.problems, skip_bad=options.skip_bad)
    return tuple(sorted({item.label for item in reading.items}))


@contextmanager
def open_items(
    folder: Path,
    specs: Mapping[str, InputSpec],
    needs: Needs,
    options: ReadOptions,
    *,
    is_labelled: bool,
    progress: Progress = no_progress,
) -> Iterator[Items]:
    """Read and decode a folder, manifest or archive.

    Args:
        folder: the folder of examples.
        specs: modality -> its input spec.
        needs: the modalities that items must have.
        options: how to read the folder.
        is_labelled: whether every item must have a class.
        progress: called with the progress of decoding.

    Raises:
        DataError: an item is broken, lacks a required modality, or has no modality that the model
            uses.
        DataMissingError: the folder does not exist, or a decoder's library is not installed.
        ConfigError: the model's examples are not read from files.
    """
    if not specs:
        raise ConfigError(
            "the model was trained on data that are computed; no folder can be read for it"
        )
    kinds = {name: spec.kind for name, spec in specs.items()}
    reading = read_items(folder, _ask(options), is_labelled=is_labelled, expected=kinds)
    log = ProblemLog()
    log.extend(reading.problems)
    if not any(name in needs.known for name in reading.kinds):
        _refuse(folder, log.all(), skip_bad=options.skip_bad)  # these may be why none is left
    _refuse(folder, log.fatal(), skip_bad=options.skip_bad)  # says more than ``_known`` could
    known, notes = _known(folder, reading, specs, needs)
    items = _chosen(folder, reading.items, options.only)
    if is_labelled:
        items.sort(key=lambda item: item.label)  # as in training, for learners that read sequences
    lacking = _lacking(folder, items, needs, log)
    _refuse(folder, log.fatal(), skip_bad=options.skip_bad)
    decoders = {name: specs[name].decoder_options() for name in known}
    for name in known:
        specs[name].require_encoder(name, advice=_TRAIN_AGAIN if is_labelled else _ADAPT_AGAIN)
    with tempfile.TemporaryDirectory(prefix="metafleet-") as scratch:
        columns = item_columns(items, known, decoders, Path(scratch))
        decoded, failed = decode_items(
            items, columns, scratch=Path(scratch), progress=progress, log=log
        )
        _refuse(folder, log.all(), skip_bad=options.skip_bad)
        rows = tuple(n for n in range(len(items)) if n not in failed and n not in lacking)
        if not rows:
            raise DataError(f"{folder} has no item that can be used")
        notes += [f"left out: {line}" for line in first_lines(log.all())]
        encoded = encode_columns(columns, decoded, Path(scratch), progress=progress)
        notes += [*encoded.notes]
        notes += say_lost_levels(items, rows, decoded, known, decoders, advice=_AS_TRAINED)
        kept = [items[row] for row in rows]
        notes += reading.say_lost(kept) if is_labelled else []
        found = Items(
            names=tuple(item.where for item in kept),
            labels=tuple(item.label for item in kept),
            notes=(),
            lost=reading.lost_classes(kept),
            _specs={name: spec for name, spec in specs.items() if name in needs.known},
            _decoded=encoded,
            _rows=rows,
        )
        notes += _gaps(found, needs, is_labelled=is_labelled)
        if options.invert is None:
            notes += _inverted(folder, found, specs, is_labelled=is_labelled)
        yield replace(found, notes=tuple(notes))


def _chosen(folder: Path, items: Sequence[Item], only: Sequence[str]) -> list[Item]:
    """Return the items to read.

    Raises:
        DataError: a named item is not in the folder.
    """
    if not only:
        return list(items)
    there = {item.where for item in items}
    for name in only:
        if name not in there:
            raise DataError(
                f"{folder} has no item {name!r:.120}; expected a name as predictions have it: look "
                "whether it was moved, or give the same --layout and --column as then"
            )
    wanted = set(only)
    return [item for item in items if item.where in wanted]


def _ask(options: ReadOptions) -> FolderOptions:
    return FolderOptions(
        path="",
        layout=options.layout,
        label=options.label,
        label_separator=options.label_separator,
        columns=options.columns,
        skip_bad=options.skip_bad,
    )


def _refuse(folder: Path, problems: Sequence[DataProblem], *, skip_bad: bool) -> None:
    fatal = any(problem.is_fatal for problem in problems)
    if not problems or (skip_bad and not fatal):
        return
    them = "it" if len(problems) == 1 else "them"
    advice = f"fix {them}" if fatal else f"fix {them}, or give --skip-bad to leave {them} out"
    # the place of some problems is the folder itself
    lines = [line.removeprefix(f"{folder}: ") for line in first_lines(problems)]
    if len(lines) == 1:
        raise DataError(f"{folder}: {lines[0]}; {advice}")
    raise DataError("\n".join([*lines, f"{folder} has {counted(problems)}; {advice}"]))


def _lacking(folder: Path, items: Sequence[Item], needs: Needs, log: ProblemLog) -> set[int]:
    """Log the items that lack a required modality, and return their numbers."""
    kind = "missing-modality"
    why = "which the model needs of every item"
    nowhere = [name for name in needs.required if items and not _any_has(items, name)]
    for name in nowhere:
        log.add_fatal(kind, str(folder), f"no item has {name!r}, {why}; add it")
    found = set()
    for number, item in enumerate(items):
        absent = [name for name in needs.required if name not in item.parts]
        absent = [name for name in absent if name not in nowhere]
        if absent:
            log.add(kind, item.where, f"has no {' and no '.join(map(repr, absent))}, {why}")
        elif not any(name in item.parts for name in needs.known):
            log.add(kind, item.where, f"has none of {', '.join(needs.optional)}, and needs one")
        else:
            continue
        found.add(number)
    return found


def _any_has(items: Sequence[Item], modality: str) -> bool:
    return any(modality in item.parts for item in items)


def _known(
    folder: Path, reading: Reading, specs: Mapping[str, InputSpec], needs: Needs
) -> tuple[dict[str, str], list[str]]:
    """Return modality -> kind for those that the model uses, and notes on the others."""
    known = {}
    notes = [note for note in reading.notes if note.startswith(("layout: ", "modality ", LINKS))]
    for name, kind in reading.kinds.items():
        if name not in needs.known:
            if name not in specs:
                _refuse_unclear(folder, reading, specs, needs, kind)
            notes.append(
                f"modality {name!r} is left out: the model looks at {', '.join(needs.known)}"
            )
        elif kind != specs[name].kind:
            raise DataError(
                f"{folder} has {kind} as modality {name!r}; the model reads "
                f"{specs[name].kind} there"
            )
        else:
            known[name] = kind
    if not known:
        there = ", ".join(reading.kinds) or "nothing"
        raise DataError(
            f"{folder} has {there}; the model reads {', '.join(needs.known)}: none of it is there"
        )
    return known, notes


def _refuse_unclear(
    folder: Path, reading: Reading, specs: Mapping[str, InputSpec], needs: Needs, kind: str
) -> None:
    """Raise an error if a column could be any of several modalities of the model.

    Raises:
        DataError: the column is ambiguous; the message shows the option that resolves it.
    """
    alike = [name for name in needs.known if specs[name].kind == kind]
    if not alike or any(name in reading.kinds for name in alike):
        return
    unclear = [name for name, of in reading.kinds.items() if of == kind and name not in specs]
    columns = [reading.columns[name] for name in unclear]
    place = "" if columns == [kind] else f" in {' and '.join(map(repr, columns))}"
    raise DataError(
        f"{folder}: the {kind}{place} may be {' or '.join(map(repr, alike))} of the model; say "
        f"which, as --column {alike[0]}={columns[0]}"
    )


def _gaps(items: Items, needs: Needs, *, is_labelled: bool) -> list[str]:
    """Return notes on modalities that are missing from all items, or from all of a class."""
    notes = []
    for modality in needs.optional:
        if len(items.lacking(modality)) == len(items):
            notes.append(f"no item has {modality!r}, at which the model would look as well")
        elif is_labelled:
            notes += [
                f"no example of class {label!r} has {modality!r}, which others have: an item with "
                "it may look less like this class than it is"
                for label in items.classes_without(modality)
            ]
    return notes


def _inverted(
    folder: Path, items: Items, specs: Mapping[str, InputSpec], *, is_labelled: bool
) -> list[str]:
    """Return notes on pictures that look inverted compared with training.

    Raises:
        DataError: the pictures are those of a support set and look inverted.
    """
    notes = []
    for modality, spec in specs.items():
        found = items.brightness(modality) if spec.is_picture else None
        if found is None or spec.brightness is None:
            continue
        if not looks_inverted(found, spec.brightness):
            continue
        told = (
            f"{folder}: {modality!r} looks inverted: the mean of its pictures is {found:.2f} as "
            f"the model takes them, and was {spec.brightness:.2f} in training; --invert swaps "
            "light and dark, --no-invert takes them as they are"
        )
        if is_labelled:
            raise DataError(told)
        notes.append(told)
    return notes
