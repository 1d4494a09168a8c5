"""Data sets that are read from an original and prepared: what all of them do alike.

The original is where the user has it (option ``root``) or in ``<data_dir>/<name>``. Data that were
prepared from it serve without it: on a worker's host, or on a shared folder.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from metafleet.data.base import ItemDataSet
from metafleet.data.prepared.class_data import ClassData, Splits
from metafleet.data.prepared.prepared import PreparedData, find_by_recipe, folder_of
from metafleet.data.prepared.preparing import Content, find_or_decode
from metafleet.data.summary import Progress, no_progress
from metafleet.errors import DataMissingError


class StoredOptions(Protocol):
    """What the options of every stored data set have."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The chosen modalities, in the order of the inputs."""
        ...

    @property
    def root(self) -> str:
        """Where the original is; "": in the data folder."""
        ...


OptionsT = TypeVar("OptionsT", bound=StoredOptions)


@dataclass(frozen=True, slots=True)
class Original:
    """A data set found on disk.

    Attributes:
        fingerprint: hash of what is there.
        read: given an empty folder for large arrays, reads everything.
    """

    fingerprint: str
    read: Callable[[Path, Progress], Content]


class StoredDataSet(ItemDataSet, Generic[OptionsT]):
    """A data set with an original; a subclass says how to find, read, split and download it."""

    expected: str
    """What has to be at ``root``, for messages."""
    how_to_get: str
    """How to get the original, for messages."""

    @abstractmethod
    def recipe(self, options: OptionsT) -> Mapping[str, Any]:
        """Return JSON values: all of the options that what is prepared depends on."""

    @abstractmethod
    def find_original(self, root: Path, options: OptionsT) -> Original | str:
        """Look for the original at ``root``, which exists; else say what it lacks."""

    @abstractmethod
    def splits(self, options: OptionsT, prepared: PreparedData) -> Splits:
        """Return split -> names of its classes."""

    def download(self, options: OptionsT, folder: Path, progress: Progress) -> None:
        """Bring the original to ``folder``, if it can be downloaded.

        Raises:
            DataMissingError: it cannot; says how to get it.
            DataError: the download failed.
        """
        raise DataMissingError(
            f"data set {self.name!r} is not in {folder} and has no download; {self.how_to_get}"
        )

    def check_place(self, options: OptionsT) -> None:
        """Make sure that ``root``, if it is given, holds the data set."""
        if options.root:
            found = self._look(Path(options.root).expanduser(), options)
            if isinstance(found, str):
                raise self._unusable(options.root, found)

    def is_ready(self, options: OptionsT, data_dir: Path) -> bool:
        """Return whether the data are prepared or can be prepared without a download."""
        try:
            self._locate(options, data_dir)
        except DataMissingError:
            return False
        return True

    def prepare(self, options: OptionsT, data_dir: Path, progress: Progress) -> PreparedData:
        """Download unless ``root`` is given or the data are there; read and store."""
        self.check_place(options)
        if not options.root and not self.is_ready(options, data_dir):
            self.download(options, data_dir / self.name, progress)
        return self._open(options, data_dir, progress)

    def open_classes(self, options: OptionsT, data_dir: Path) -> ClassData:
        """Open the data, preparing them first if they only need to be read."""
        prepared = self._open(options, data_dir, no_progress)
        splits = self.splits(options, prepared)
        return ClassData(self.name, prepared, splits, options.modalities)

    def _open(self, options: OptionsT, data_dir: Path, progress: Progress) -> PreparedData:
        place = self._locate(options, data_dir)
        if isinstance(place, PreparedData):
            return place
        original, recipe = place, self.recipe(options)
        folder = folder_of(data_dir, self.name, {**recipe, "source": original.fingerprint})

        def make(scratch: Path) -> Content:
            return replace(original.read(scratch, progress), recipe=recipe)

        return find_or_decode(folder, make)

    def _locate(self, options: OptionsT, data_dir: Path) -> Original | PreparedData:
        root = Path(options.root).expanduser() if options.root else data_dir / self.name
        found = self._look(root, options)
        if isinstance(found, Original):
            return found
        prepared = find_by_recipe(data_dir, self.name, self.recipe(options))
        if prepared is not None:
            return prepared
        if options.root:
            raise self._unusable(options.root, found)
        raise DataMissingError(
            f"data set {self.name!r} is not in {data_dir} ({found}); {self.how_to_get}"
        )

    def _look(self, root: Path, options: OptionsT) -> Original | str:
        return self.find_original(root, options) if root.exists() else "it is not there"

    def _unusable(self, root: str, lacks: str) -> DataMissingError:
        return DataMissingError(
            f"cannot read {self.name} from root={root!r}: {lacks}; expected {self.expected}"
        )
