"""Data sets by the name that configurations use.

Each function takes ``options``, the JSON values of a configuration's ``[data]`` table, in which
"name" selects the data set. ``open_data`` binds a data set to its options.
"""

import functools
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metafleet.data.base import DataSet
from metafleet.data.bound import BoundData
from metafleet.data.decoding.registry import import_kinds
from metafleet.data.functions.computed import ComputedData, FunctionSource
from metafleet.data.functions.function_families import FUNCTION_FAMILIES
from metafleet.data.functions.functions import Functions
from metafleet.data.functions.sinusoid import SINUSOID
from metafleet.data.given import GivenData
from metafleet.data.importing.folder import Folder
from metafleet.data.importing.record import find_record
from metafleet.data.mixture import Mixture
from metafleet.data.own.named import import_data_set
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.data_ref import DataRef, key_of
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.sets.clinc150 import Clinc150
from metafleet.data.sets.concepts import Concepts
from metafleet.data.sets.fsdd import Fsdd
from metafleet.data.sets.glyphs import Glyphs
from metafleet.data.sets.omniglot import Omniglot
from metafleet.encoders.own_encoder import import_encoders
from metafleet.episode import CLASS_TEXT
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError
from metafleet.options import parse_options

Options = Mapping[str, Any]
Given = Mapping[str, ClassData]
"""``key_of`` the options of a data set -> its prepared data."""
_ALL: tuple[DataSet, ...] = (
    Clinc150(),
    Concepts(),
    Folder(),
    Fsdd(),
    FUNCTION_FAMILIES,
    Functions(),
    Glyphs(),
    Mixture(lambda options: _resolve(options)),  # noqa: PLW0108 - it is defined below
    Omniglot(),
    SINUSOID,
)
DATASETS: Mapping[str, DataSet] = {dataset.name: dataset for dataset in _ALL}


def open_data(
    options: Options,
    data_dir: Path,
    *,
    allowed_packages: Sequence[str] = (),
    given: Given | None = None,
) -> BoundData:
    """Check the name and options of a data set, and bind the data set to the options.

    Args:
        options: "name", a built-in name or "package.module:Class", and the data set's options.
        data_dir: folder of the prepared data.
        allowed_packages: user packages that may be imported.
        given: prepared data of these options, or of the parts of a mixture. The prepared data are
            used without changes, and nothing is prepared or encoded.

    Raises:
        ConfigError: the name or an option is wrong. The message names the option, its value and
            what was expected.
    """
    dataset, parsed = _resolve(options, allowed_packages=allowed_packages, given=given)
    return BoundData(dataset, parsed, data_dir)


def pin(options: Options, data_dir: Path) -> dict[str, Any]:
    """Return the options, with added facts about the data that only this machine knows.

    If the options name a folder that was imported here, the path and options of the import are
    added. Another host that has the folder but not the import can then prepare the same data.

    Raises:
        DataCorruptError: the record of the import is damaged.
    """
    record = find_record(data_dir, str(options.get("imported", "")))
    if options.get("name") != Folder.name or record is None:
        return dict(options)
    return {**record.changed_options(), **options}


def open_source(
    options: Options, data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> EpisodeSource:
    """Open the data for sampling. If needed and possible without a download, prepare them first.

    Args:
        options: "name", a built-in name or "package.module:Class", and the data set's options.
        data_dir: folder of the prepared data.
        allowed_packages: user packages that may be imported.

    Raises:
        ConfigError: the options are wrong.
        DataMissingError: the data are not on this machine; the message says how to get them.
        DataCorruptError: the data are damaged and cannot be rebuilt.
    """
    return open_data(options, data_dir, allowed_packages=allowed_packages).open_source()


def least_mse(options: Options) -> float:
    """Return the least expected mean squared error that a learner can have, or a lower bound of it.

    If no bound is known, the result is 0.

    Raises:
        ConfigError: the options are wrong.
    """
    dataset = DATASETS.get(options["name"])
    if not isinstance(dataset, ComputedData):
        return 0.0
    source = dataset.make_source(_resolve(options)[1])
    return source.least_mse if isinstance(source, FunctionSource) else 0.0


def draw_sheet(
    options: Options, data_dir: Path, path: Path, *, allowed_packages: Sequence[str] = ()
) -> str:
    """Write a PNG that shows a few classes of each split, each item's modalities side by side.

    Modalities that the options do not choose are also shown, if showing them needs no download.

    Returns:
        A note on characters that are drawn as boxes because no font has them; "" if there are none.

    Raises:
        ConfigError: the data set has no items that can be drawn.
        DataError: ``path`` cannot be written. Errors that ``open_source`` raises are raised as
            well.
    """
    from metafleet.data.sheet.sheet import write_sheet  # noqa: PLC0415 - needs Pillow

    bound = open_data(options, data_dir, allowed_packages=allowed_packages)
    if modalities := _all_modalities(bound.dataset):
        everything = open_data(
            {**options, "modalities": modalities}, data_dir, allowed_packages=allowed_packages
        )
        bound = everything if everything.is_ready() else bound
    data = bound.open_classes()
    if data is None:
        raise ConfigError(f"data set {options['name']!r} has no pictures; leave --sheet out")
    return write_sheet(data, path)


def is_made_of_parts(name: str) -> bool:
    """Return whether a data set is a mixture. Its parts are prepared, but not the mixture."""
    return isinstance(DATASETS.get(name), Mixture)


def _all_modalities(dataset: DataSet) -> list[str]:
    """Return the modalities that a data set's options may name; [] if there is no fixed list."""
    hint = typing.get_type_hints(dataset.Options).get("modalities")
    return [choice for inner in typing.get_args(hint)[:1] for choice in typing.get_args(inner)]


def find_features(
    options: Options, data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> tuple[DataRef, ...]:
    """Describe the prepared data that hold features of a pretrained encoder.

    Returns:
        A description for each data set that holds features; a mixture may have several.

    Raises:
        The errors of ``open_source``.
    """
    dataset, parsed = _resolve(options, allowed_packages=allowed_packages)
    if isinstance(dataset, Mixture):
        parts = [
            find_features(own, data_dir, allowed_packages=allowed_packages)
            for _, _, own in dataset.parts(parsed)
        ]
        return tuple(ref for part in parts for ref in part)
    data = dataset.open_classes(parsed, data_dir)
    if data is None or not any(data.prepared.arrays[m].encoder for m in data.modalities):
        return ()
    return (DataRef.of(options, data),)


def encoder_identities(
    options: Options, data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> dict[str, Mapping[str, Any]]:
    """Return modality -> identity of the pretrained encoder whose features the data have.

    Raises:
        ConfigError, DataError: for the same reasons as ``open_source``.
    """
    dataset, parsed = _resolve(options, allowed_packages=allowed_packages)
    if isinstance(dataset, Mixture):
        return {
            names.get(modality, modality): identity
            for _, names, own in dataset.parts(parsed)
            for modality, identity in encoder_identities(
                own, data_dir, allowed_packages=allowed_packages
            ).items()
        }
    data = dataset.open_classes(parsed, data_dir)
    if data is None:
        return {}
    used = (*data.modalities, CLASS_TEXT)
    return {m: it for m, it in data.prepared.encoders.items() if m in used}


def give(
    found: Iterable[tuple[DataRef, PreparedData]], *, allowed_packages: Sequence[str] = ()
) -> Given:
    """Return described data in the form that ``open_data`` takes.

    Raises:
        ConfigError, DataMissingError: a user-defined kind of data cannot be imported.
    """
    given = {}
    for ref, prepared in found:
        kinds = [info.kind for info in prepared.arrays.values()]  # models need them
        import_kinds(kinds, allowed_packages=allowed_packages)
        given[key_of(ref.options)] = ref.open(prepared)
    return given


def _resolve(
    options: Options, *, allowed_packages: Sequence[str] = (), given: Given | None = None
) -> tuple[DataSet, Any]:
    if given:
        if (data := given.get(key_of(options))) is not None:
            return GivenData(data), None
        if options.get("name") == Mixture.name:
            parts = functools.partial(_resolve, allowed_packages=allowed_packages, given=given)
            mixture = Mixture(parts)
            return mixture, parse_options(mixture.Options, options, where="data set 'mixture'")
    dataset = _find(options, allowed_packages)
    import_encoders(options, allowed_packages=allowed_packages)
    return dataset, parse_options(dataset.Options, options, where=f"data set {options['name']!r}")


def _find(options: Options, allowed_packages: Sequence[str]) -> DataSet:
    known = ", ".join(sorted(DATASETS))
    if "name" not in options:
        raise ConfigError(f"the data set has no name; add name = one of: {known}")
    name = options["name"]
    if name == Mixture.name and allowed_packages:
        return Mixture(functools.partial(_resolve, allowed_packages=allowed_packages))
    if name == Folder.name and allowed_packages:
        return Folder(allowed_packages)
    if isinstance(name, str) and ":" in name:
        return import_data_set(name, allowed_packages=allowed_packages)
    dataset = DATASETS.get(name) if isinstance(name, str) else None
    if dataset is None:
        raise ConfigError(f"there is no data set {name!r}; expected one of: {known}")
    return dataset
