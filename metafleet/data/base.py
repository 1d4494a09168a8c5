"""Base classes of data sets, and of data sets with stored items."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.summary import DataSummary, Progress
from metafleet.episodes.source import EpisodeSource


class DataSet(ABC):
    """A data set. It is stateless, so all methods are safe in any thread and process.

    The default methods suit computed data, which are always ready and need no preparation. In other
    data sets, ``open_source``, ``digest`` and ``summarise`` prepare missing data if the preparation
    needs no download. ``prepare`` also downloads.

    Attributes:
        name, title, licence, origin: descriptions for users. Configurations refer to ``name``.
        Options: the data set's options, a frozen dataclass. Its fields, types and defaults may be
            read with ``dataclasses.fields`` and ``typing.get_type_hints``.
    """

    name: str
    title: str
    licence: str
    origin: str
    Options: type[Any]

    def check_place(self, options: Any) -> None:  # noqa: B027 - most name no place
        """If the options name a path, check that the path exists on this machine and has the data.

        Only the process that starts a run calls this, because a worker may have the prepared data
        without having the path.

        Raises:
            DataMissingError: the path does not exist, or lacks data that the options select.
        """

    def is_ready(self, options: Any, data_dir: Path) -> bool:
        """Return whether the data can be opened without downloading anything."""
        return True

    def prepare(self, options: Any, data_dir: Path, progress: Progress) -> PreparedData | None:
        """Download and prepare missing data; return None for computed data.

        Raises:
            DataError: the download failed, or the data are damaged.
        """
        return None

    def open_classes(self, options: Any, data_dir: Path) -> ClassData | None:
        """Open arrays, classes and splits; None if there are none. Raises like ``open_source``."""
        return None

    def find_prepared(self, options: Any, data_dir: Path) -> PreparedData | None:
        """Return data that were prepared before with these options; None if there are none.

        This prepares nothing and does not need the original.
        """
        return None

    @abstractmethod
    def open_source(self, options: Any, data_dir: Path) -> EpisodeSource:
        """Open the data for sampling.

        Raises:
            DataMissingError: the data are not on this machine; the message says how to get them.
            DataCorruptError: the data are damaged and cannot be rebuilt.
        """

    @abstractmethod
    def digest(self, options: Any, data_dir: Path) -> str:
        """Return the sha256 of the data that a run depends on."""

    @abstractmethod
    def summarise(self, options: Any, data_dir: Path) -> DataSummary:
        """Return a summary of the data."""


class ItemDataSet(DataSet):
    """A data set with stored classes of items; subclasses prepare and open them."""

    @abstractmethod
    def prepare(self, options: Any, data_dir: Path, progress: Progress) -> PreparedData:
        """Download and prepare missing data. Raises the errors of ``DataSet.prepare``."""

    @abstractmethod
    def open_classes(self, options: Any, data_dir: Path) -> ClassData:
        """Open arrays, classes and splits; prepare them if needed. Raises like ``open_source``."""

    def open_source(self, options: Any, data_dir: Path) -> EpisodeSource:
        """Open the items for sampling."""
        return self.open_classes(options, data_dir).open_source()

    def digest(self, options: Any, data_dir: Path) -> str:
        """Return the sha256 of the chosen modalities and the split."""
        return self.open_classes(options, data_dir).digest()

    def summarise(self, options: Any, data_dir: Path) -> DataSummary:
        """Return the numbers of classes and items."""
        data = self.open_classes(options, data_dir)
        return data.summarise(licence=self.licence, origin=self.origin)
