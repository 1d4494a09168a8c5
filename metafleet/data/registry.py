"""The data sets by name: what configurations may ask for.

Each function takes ``options``: JSON values with "name" choosing the data set, as in a
configuration's ``[data]`` table.
"""

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metafleet.data.base import DataSet
from metafleet.data.functions.computed import ComputedRegression
from metafleet.data.functions.function_families import FUNCTION_FAMILIES
from metafleet.data.functions.functions import Functions
from metafleet.data.functions.sinusoid import SINUSOID
from metafleet.data.importing.folder import Folder
from metafleet.data.importing.record import find_record
from metafleet.data.mixture import Mixture
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.sets.clinc150 import Clinc150
from metafleet.data.sets.concepts import Concepts
from metafleet.data.sets.fsdd import Fsdd
from metafleet.data.sets.glyphs import Glyphs
from metafleet.data.sets.omniglot import Omniglot
from metafleet.data.summary import DataSummary, Progress
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError
from metafleet.options import parse_options

Options = Mapping[str, Any]
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


def validate_options(options: Options) -> Any:
    """Check name, options, types and ranges; return the data set's own options object.

    Raises:
        ConfigError: names the option, its value and what was expected.
    """
    return _resolve(options)[1]


def prepare(
    options: Options, data_dir: Path, progress: Progress | None = None
) -> PreparedData | None:
    """Download and prepare what is missing; None for data that are computed.

    Safe to repeat and to run in several processes at once.

    Raises:
        ConfigError: the options are wrong.
        DataError: the download failed, the data are damaged or cannot be written.
    """
    dataset, parsed = _resolve(options)
    return dataset.prepare(parsed, data_dir, progress)


def check_origin(options: Options) -> None:
    """Make sure that the place on this machine that the options name, if any, has the data.

    ``open_source`` and ``data_digest`` do without it where the data were prepared before, as on a
    worker's host; who begins a run is told.

    Raises:
        ConfigError: the options are wrong.
        DataMissingError: the place does not exist, or lacks what the options ask for.
    """
    dataset, parsed = _resolve(options)
    dataset.check_origin(parsed)


def pin(options: Options, data_dir: Path) -> dict[str, Any]:
    """Return the options together with what only this machine knows of the data they name.

    A folder that was imported here gets the path and the options it was imported with, so that
    another host, which has the folder and not the import, can prepare the same.

    Raises:
        DataCorruptError: what is remembered of the import is damaged.
    """
    record = find_record(data_dir, str(options.get("imported", "")))
    if options.get("name") != Folder.name or record is None:
        return dict(options)
    return {**record.changed_options(), **options}


def open_source(options: Options, data_dir: Path) -> EpisodeSource:
    """Open the data for sampling; prepares them first where that needs no download.

    Raises:
        ConfigError: the options are wrong.
        DataMissingError: the data are not on this machine; the message says how to get them.
        DataCorruptError: they are damaged and cannot be rebuilt.
    """
    dataset, parsed = _resolve(options)
    return dataset.open_source(parsed, data_dir)


def least_mse(options: Options) -> float:
    """Return what no learner's expected mean squared error can be below; 0 where nothing is known.

    Raises:
        ConfigError: the options are wrong.
    """
    dataset, parsed = _resolve(options)
    if not isinstance(dataset, ComputedRegression):
        return 0.0
    return dataset.make_source(parsed).least_mse


def data_digest(options: Options, data_dir: Path) -> str:
    """Return the sha256 of the chosen modalities and the split. Quick once prepared.

    Raises:
        ConfigError, DataMissingError, DataCorruptError: as ``open_source``.
    """
    dataset, parsed = _resolve(options)
    return dataset.digest(parsed, data_dir)


def summarise(options: Options, data_dir: Path) -> DataSummary:
    """Count what is there, for people.

    Raises:
        ConfigError, DataMissingError, DataCorruptError: as ``open_source``.
    """
    dataset, parsed = _resolve(options)
    return dataset.summarise(parsed, data_dir)


def verify(options: Options, data_dir: Path) -> None:
    """Read every prepared byte and compare it with its sha256.

    Raises:
        DataCorruptError: something differs; or as ``open_source``.
    """
    dataset, parsed = _resolve(options)
    data = dataset.open_classes(parsed, data_dir)
    if data is not None:
        data.prepared.verify()


def draw_sheet(options: Options, data_dir: Path, path: Path) -> str:
    """Write a PNG that shows a few classes of each split, each item's modalities side by side.

    Modalities that are not chosen are shown too where they can be had without a download.

    Returns:
        Which characters are boxes for want of a font; "" for none.

    Raises:
        ConfigError: the data set has nothing to draw.
        DataError: ``path`` cannot be written; or as ``open_source``.
    """
    from metafleet.data.sheet.sheet import write_sheet  # noqa: PLC0415 - needs Pillow

    everything = dict(options) | {"modalities": _all_modalities(options)}
    if everything["modalities"] and is_ready(everything, data_dir):
        options = everything
    dataset, parsed = _resolve(options)
    data = dataset.open_classes(parsed, data_dir)
    if data is None:
        raise ConfigError(f"data set {dataset.name!r} has no pictures; leave --sheet out")
    return write_sheet(data, path)


def is_ready(options: Options, data_dir: Path) -> bool:
    """Tell whether the data can be opened without downloading anything.

    Raises:
        ConfigError: the options are wrong.
    """
    dataset, parsed = _resolve(options)
    return dataset.is_ready(parsed, data_dir)


def is_made_of_parts(name: str) -> bool:
    """Tell whether a data set is others together: it is its parts that are prepared."""
    return isinstance(DATASETS.get(name), Mixture)


def _all_modalities(options: Options) -> list[str]:
    """Return the modalities that a data set's options may name; [] where it has no such list."""
    hint = typing.get_type_hints(_resolve(options)[0].Options).get("modalities")
    return [choice for inner in typing.get_args(hint)[:1] for choice in typing.get_args(inner)]


def _resolve(options: Options) -> tuple[DataSet, Any]:
    known = ", ".join(sorted(DATASETS))
    if "name" not in options:
        raise ConfigError(f"the data set has no name; add name = one of: {known}")
    name = options["name"]
    dataset = DATASETS.get(name) if isinstance(name, str) else None
    if dataset is None:
        raise ConfigError(f"there is no data set {name!r}; expected one of: {known}")
    return dataset, parse_options(dataset.Options, options, where=f"data set {name!r}")
