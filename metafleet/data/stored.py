"""Base class of data sets that are prepared from an original, such as a published archive.

The original is at the user's path (option ``root``) or in ``<data_dir>/<name>``. Prepared data can
be used without the original, for example on a worker's host or from a shared folder.
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
    """Options that every stored data set has."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The chosen modalities, in the order of the inputs."""
        ...

    @property
    def root(self) -> str:
        """Path of the original; "" if it is in the data folder."""
        ...


OptionsT = TypeVar("OptionsT", bound=StoredOptions)


@dataclass(frozen=True, slots=True)
class Original:
    """A data set found on disk.

    Attributes:
        fingerprint: hash of the data set's contents.
        read: a function that takes an empty folder for large arrays and reads the whole data set.
    """

    fingerprint: str
    read: Callable[[Path, Progress], Content]


class StoredDataSet(ItemDataSet, Generic[OptionsT]):
    """A data set with an original; subclasses define how to find, read, split and download it."""

    expected: str
    """Description of what ``root`` must hold, for messages."""
    how_to_get: str
    """How to get the original, for messages."""

    @abstractmethod
    def recipe(self, options: OptionsT) -> Mapping[str, Any]:
        """Return, as JSON values, all options that the prepared data depend on."""

    @abstractmethod
    def find_original(self, root: Path, options: OptionsT) -> Original | str:
        """Return the original at the existing path ``root``, or a message about missing files."""

    @abstractmethod
    def splits(self, options: OptionsT, prepared: PreparedData) -> Splits:
        """Return split -> names of its classes."""

    def download(self, options: OptionsT, folder: Path, progress: Progress) -> None:
        """Download the original to ``folder`` if that is possible.

        Raises:
            DataMissingError: there is no download; the message says how to get the original.
            DataError: the download failed.
        """
        raise DataMissingError(
            f"data set {self.name!r} is not in {folder} and has no download; {self.how_to_get}"
        )

    def check_place(self, options: OptionsT) -> None:
        """Check that ``root``, if given, holds the data set."""
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
        """Download the original unless ``root`` is given or the data exist; read and store them."""
        self.check_place(options)
        if not options.root and not self.is_ready(options, data_dir):
            self.download(options, data_dir / self.name, progress)
        return self._open(options, data_dir, progress)

    def find_prepared(self, options: OptionsT, data_dir: Path) -> PreparedData | None:
        """Return the newest data prepared with these options from any original."""
        return find_by_recipe(data_dir, self.name, self.recipe(options))

    def open_classes(self, options: OptionsT, data_dir: Path) -> ClassData:
        """Open the data; prepare them first if that needs no download."""
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
