"""Import a folder: read, decode, check and store it, and record it under a name."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metafleet.data.decoding.features import encoder_of
from metafleet.data.decoding.registry import DECODERS, get_decoder, import_kinds, is_own
from metafleet.data.importing.checking import CheckedFolder, check_folder
from metafleet.data.importing.item import Reading
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import DataProblem, count_kinds, counted
from metafleet.data.importing.reading import read_items
from metafleet.data.importing.record import (
    ImportRecord,
    check_name,
    require_free_name,
    write_record,
)
from metafleet.data.prepared.prepared import (
    MEASURED,
    ClassInfo,
    PreparedData,
    find_by_recipe,
    folder_of,
)
from metafleet.data.prepared.preparing import Content, find_or_decode
from metafleet.data.summary import Progress, no_progress
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.class_texts import NO_CLASS_TEXTS
from metafleet.encoders.own_encoder import import_encoders
from metafleet.encoders.registry import get_encoder
from metafleet.episode import CLASS_TEXT, SPLITS
from metafleet.errors import DataError
from metafleet.options import option_values, parse_options
from metafleet.sources import imported_digest, package_of

_NAME = "folder"
_RECIPE_VERSION = 2
"""Increment this when the same folder and options give different data or splits."""
_PLACES_TOLD = 5
_NOT_ASKED = ("path", "imported", "modalities")
"""Options that do not decide what is prepared."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of preparing a folder.

    Attributes:
        prepared: the prepared data; None if the folder was refused because of problems.
        problems: the problems of the folder. With ``skip_bad``, the items with problems were left
            out. If the data were prepared earlier, ``problems`` is empty, and the facts of the
            prepared data list the items that were left out.
        notes: decisions about layout, columns and splits.
    """

    prepared: PreparedData | None
    problems: tuple[DataProblem, ...] = ()
    notes: tuple[str, ...] = ()


def import_folder(
    options: FolderOptions,
    data_dir: Path,
    *,
    name: str,
    progress: Progress = no_progress,
    allowed_packages: Sequence[str] = (),
) -> ImportReport:
    """Prepare a folder and record it under a name. The report lists all problems of the folder.

    Raises:
        ConfigError: the name or an option is wrong.
        DataMissingError: the folder does not exist, or a decoder's library is not installed.
        DataError: the prepared data cannot be written.
    """
    check_name(name)
    options = dataclasses.replace(options, path=str(folder_path(options)))
    require_free_name(data_dir, name, options.path)
    report = bring_in(options, data_dir, progress, allowed_packages=allowed_packages)
    if report.prepared is not None:
        write_record(data_dir, ImportRecord(name, options, report.prepared.path.name))
    return report


def bring_in(
    options: FolderOptions,
    data_dir: Path,
    progress: Progress,
    *,
    allowed_packages: Sequence[str] = (),
) -> ImportReport:
    """Prepare a folder unless it is prepared already. Raises the errors of ``import_folder``."""
    import_kinds(options.own_kinds, allowed_packages=allowed_packages)
    import_encoders(option_values(options), allowed_packages=allowed_packages)
    reading = read_items(folder_path(options), options)
    folder = folder_of(data_dir, _NAME, _recipe(options, reading))
    seen: list[CheckedFolder] = []

    def make(scratch: Path) -> Content:
        checked = check_folder(reading, options, scratch=scratch, progress=progress)
        seen.append(checked)
        if not checked.is_usable(skip_bad=options.skip_bad):
            raise _RefusedError
        return _content(checked, options, reading)

    try:
        prepared = find_or_decode(folder, make)
    except _RefusedError:
        return ImportReport(None, seen[0].problems, seen[0].notes)
    if seen:
        return ImportReport(prepared, seen[0].problems, seen[0].notes)
    return ImportReport(prepared, (), reading.notes)


def refusal(options: FolderOptions, problems: tuple[DataProblem, ...]) -> DataError:
    """Return an error that explains in one line why a folder was not prepared."""
    return DataError(
        f"{options.path} has {counted(problems)}, the first: "
        f"{problems[0]}; run `metafleet data import {options.path}` to see all, "
        "or set skip_bad = true to leave them out"
    )


def folder_path(options: FolderOptions) -> Path:
    """Return the absolute path that the options name."""
    return absolute_path(Path(options.path))


def absolute_path(path: Path) -> Path:
    """Return the absolute path without "~", "." and ".."."""
    return Path(os.path.abspath(path.expanduser()))


def find_kept(options: FolderOptions, data_dir: Path) -> PreparedData | None:
    """Return the newest data prepared from the options' folder, which need not exist here."""
    return find_by_recipe(data_dir, _NAME, _asked(options))


class _RefusedError(Exception):
    """The folder has problems; the ``CheckedFolder`` lists them."""


def _recipe(options: FolderOptions, reading: Reading) -> dict[str, Any]:
    sources = {
        kind: imported_digest(package_of(kind)) for kind in reading.kinds.values() if is_own(kind)
    }
    encoders = {
        kind: encoder.identity()
        for kind in sorted(set(reading.kinds.values()))
        if (encoder := _encoder(kind, options)) is not None
    }
    encoders |= _identity_of_names(options)
    return {
        "recipe": _RECIPE_VERSION,
        "found": reading.fingerprint,
        "kinds": dict(reading.kinds),
        "versions": {kind: get_decoder(kind).version for kind in reading.kinds.values()},
        "options": _deciding(options),
        "problems": [str(problem) for problem in reading.problems],
        **({"sources": sources} if sources else {}),
        **({"encoders": encoders} if encoders else {}),
    }


def _encoder(kind: str, options: FolderOptions) -> PretrainedEncoder | None:
    parsed = parse_options(
        get_decoder(kind).Options, options.of_kind(kind), where=f"decoder {kind!r}"
    )
    return encoder_of(kind, parsed)


def _asked(options: FolderOptions) -> dict[str, Any]:
    """Return which folder is read and how, but not its contents, as JSON values."""
    asked = _deciding(options) | {"path": str(folder_path(options))}
    return dict(json.loads(json.dumps(asked)))


def _deciding(options: FolderOptions) -> dict[str, Any]:
    values = option_values(options)
    later = ["kinds", "label_separator"]
    if options.class_text == NO_CLASS_TEXTS:
        values.pop(CLASS_TEXT)
    later += [kind for kind, decoder in DECODERS.items() if not decoder.is_in_every_recipe]
    return {
        name: value
        for name, value in values.items()
        if name not in _NOT_ASKED and (value or name not in later)
    }


def _content(checked: CheckedFolder, options: FolderOptions, reading: Reading) -> Content:
    counts = Counter(item.label for item in checked.items)
    groups = {item.label: item.group for item in checked.items}
    return Content(
        classes=[ClassInfo(label, groups[label], n) for label, n in counts.items()],
        arrays=checked.decoded.arrays,
        present={},
        facts=_facts(checked, options, reading),
        masks=checked.decoded.masks,
        kinds=checked.kinds,
        encoders={**checked.decoded.encoders, **_identity_of_names(options)},
        views=checked.decoded.views,
        rows=checked.rows,
        splits={
            split: [label for label in counts if checked.splits[label] == split]
            for split in SPLITS
            if split in checked.splits.values()
        },
        recipe=_asked(options) | _measured(checked),
        class_text=options.class_text.embed(list(counts)) if options.class_text.encoder else None,
    )


def _identity_of_names(options: FolderOptions) -> dict[str, Any]:
    """Return the identity of the encoder of class names, under ``CLASS_TEXT``; {} without one."""
    encoder = options.class_text.encoder
    return {CLASS_TEXT: get_encoder(encoder, kind="text").identity()} if encoder else {}


def _measured(checked: CheckedFolder) -> dict[str, Any]:
    """Return options derived from the data; inputs for prediction are decoded with them too."""
    return {MEASURED: dict(checked.measured)} if checked.measured else {}


def _facts(checked: CheckedFolder, options: FolderOptions, reading: Reading) -> dict[str, str]:
    facts = {"source": str(folder_path(options))}
    for number, note in enumerate(checked.notes, 1):
        facts[f"note {number}"] = note
    if checked.problems:
        n_items = len(reading.items) - len(checked.items)
        facts["left out"] = f"{count_kinds(checked.problems)}; of the items read, {n_items}"
    for kind in dict.fromkeys(problem.kind for problem in checked.problems):
        places = [problem.where for problem in checked.problems if problem.kind == kind]
        more = f" and {len(places) - _PLACES_TOLD} more" if len(places) > _PLACES_TOLD else ""
        facts[f"left out, {kind}"] = ", ".join(places[:_PLACES_TOLD]) + more
    return facts
