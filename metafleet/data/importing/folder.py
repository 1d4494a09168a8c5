"""The data set ``folder``: a user's folder, manifest or archive, which is read in place.

    [data]
    name = "folder"
    path = "/data/pets"        or: imported = "pets", after `metafleet data import /data/pets`

A configuration gives either a path or the name of an import. With a path, every run and worker
checks the folder when it starts, and prepares it again if a file changed. With a name, the imported
data stay the same until the next import, and the run also records the path (``registry.pin``). If a
host does not have the folder, such as the host of a worker, this host uses data that were prepared
from the folder. The prepared data may be in a data folder that several hosts share.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from metafleet.data.base import ItemDataSet
from metafleet.data.decoding.registry import import_kinds
from metafleet.data.importing.importer import bring_in, find_kept, folder_path, refusal
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.record import find_record, get_record
from metafleet.data.importing.splits import shares_for, written
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.prepared.preparing import find_sound
from metafleet.data.summary import DataSummary, Progress, no_progress
from metafleet.encoders.own_encoder import import_encoders
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.labels import LabelEpisodeSource
from metafleet.errors import ConfigError, DataMissingError
from metafleet.options import option_values

_OF_RUNS = ("imported", "modalities")
"""Options that select data, and do not change how a folder is read."""


class Folder(ItemDataSet):
    """The data set.

    Args:
        allowed_packages: user packages from which kinds of data may be imported.
    """

    name = "folder"
    title = "your own pictures, sounds, clips, texts, strokes, numbers: a folder or manifest"
    licence = "yours"
    origin = "a folder of yours; see docs/reference/folders.md for how it may be laid out"
    Options = FolderOptions

    def __init__(self, allowed_packages: Sequence[str] = ()) -> None:
        self._allowed_packages = allowed_packages

    def check_place(self, options: FolderOptions) -> None:
        """Check that the options name a folder in exactly one way, and that it exists."""
        if not options.path and not options.imported:
            raise ConfigError(
                "data set 'folder' needs path = a folder, or imported = the name it was imported "
                "under by `metafleet data import FOLDER`"
            )
        if options.imported:
            _refuse_reading(options)
        elif not folder_path(options).exists():
            raise DataMissingError(f"there is no folder or file {options.path!r}; check data.path")

    def is_ready(self, options: FolderOptions, data_dir: Path) -> bool:
        """Return whether the data can be opened; True if the options name no folder."""
        if options.imported:
            record = find_record(data_dir, options.imported)
            return record is not None or (bool(options.path) and folder_path(options).exists())
        return (
            not options.path
            or folder_path(options).exists()
            or find_kept(options, data_dir) is not None
        )

    def find_prepared(self, options: FolderOptions, data_dir: Path) -> PreparedData | None:
        """Return the newest data prepared from the options' folder."""
        return find_kept(replace(options, imported=""), data_dir) if options.path else None

    def prepare(self, options: FolderOptions, data_dir: Path, progress: Progress) -> PreparedData:
        """Read and decode the folder, or return the prepared data if nothing has changed."""
        prepared = self._prepare(options, data_dir, progress)
        kinds = [info.kind for info in prepared.arrays.values()]  # models and sheets need them
        import_kinds(kinds, allowed_packages=self._allowed_packages)
        import_encoders(prepared.recipe, allowed_packages=self._allowed_packages)
        return prepared

    def _prepare(self, options: FolderOptions, data_dir: Path, progress: Progress) -> PreparedData:
        imported = options.imported
        if options.imported:
            record = find_record(data_dir, options.imported)
            if record is None and not options.path:
                record = get_record(data_dir, options.imported)  # raises, listing the known names
            if record is not None:
                kept = find_sound(data_dir / "prepared" / record.prepared)
                if kept is not None:
                    return kept
                options = record.options
        if not folder_path(options).exists():
            kept = find_kept(options, data_dir)
            if kept is not None:
                return kept
            if options.path and imported:
                raise DataMissingError(
                    f"what was imported as {imported!r} is not prepared in {data_dir}, and "
                    f"{options.path}, which it was made from, is gone; bring that back, or import "
                    f"another with --name {imported}"
                )
        report = bring_in(options, data_dir, progress, allowed_packages=self._allowed_packages)
        if report.prepared is None:
            raise refusal(options, report.problems)
        return report.prepared

    def open_classes(self, options: FolderOptions, data_dir: Path) -> ClassData:
        """Open the items; prepare them first if necessary."""
        self._require_place(options)
        prepared = self.prepare(options, data_dir, no_progress)
        unknown = [m for m in options.modalities if m not in prepared.arrays]
        if unknown:
            raise ConfigError(
                f"modalities={list(options.modalities)} but {_label(options)} has no "
                f"{unknown[0]!r}; it has {', '.join(prepared.arrays)}"
            )
        modalities = options.modalities or tuple(prepared.arrays)
        separator = str(prepared.recipe.get("label_separator", ""))
        return ClassData(
            _label(options), prepared, prepared.splits, modalities, label_separator=separator
        )

    def open_source(
        self, options: FolderOptions, data_dir: Path
    ) -> ClassEpisodeSource | LabelEpisodeSource:
        """Open the items for sampling."""
        data = self.open_classes(options, data_dir)
        more_classes = partial(_more_classes, options, len(data.prepared.classes))
        return data.open_source(more_classes=more_classes)

    def summarise(self, options: FolderOptions, data_dir: Path) -> DataSummary:
        """Return the numbers of classes and items."""
        data = self.open_classes(options, data_dir)
        origin = data.prepared.facts["source"]
        summary = data.summarise(licence=self.licence, origin=origin)
        facts = {name: value for name, value in summary.facts.items() if name != "source"}
        return replace(summary, facts=facts)

    def _require_place(self, options: FolderOptions) -> None:
        if not options.path and not options.imported:
            self.check_place(options)


def _refuse_reading(options: FolderOptions) -> None:
    """Refuse reading options for a folder that was imported: it was read at that time."""
    plain = option_values(FolderOptions())
    for name, value in sorted(option_values(options).items()):
        if name not in _OF_RUNS and value != plain[name]:
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(
                f"{name}={shown!r} with imported={options.imported!r}, which is read as it was "
                f'imported; leave {name} out, or set imported = "" to read a folder by its path'
            )


def _more_classes(options: FolderOptions, n_classes: int, n_way: int) -> str:
    """Return advice: shares that give each split ``n_way`` classes."""
    shares = shares_for(n_way, n_classes)
    if shares is None:
        return f"add classes: the folder has {n_classes}"
    if options.imported:
        return f"import it again with --split hashed --fractions {written(shares)}"
    return f'set data.split="hashed" and data.split_fractions={list(shares)}'


def _label(options: FolderOptions) -> str:
    """Return the name of the data for messages."""
    return options.imported or Path(options.path).name
