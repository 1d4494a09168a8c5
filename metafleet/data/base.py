"""What a data set is, and what all sets of stored items do alike."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.summary import DataSummary, Progress
from metafleet.episodes.source import EpisodeSource


class DataSet(ABC):
    """One data set; stateless, so all methods are safe in any thread and process.

    What a subclass does not say is as of data that are computed: always ready, with nothing to
    prepare. ``prepare``, ``open_source``, ``digest`` and ``summarise`` prepare what is
    not yet prepared if that needs no download.

    Attributes:
        name, title, licence, origin: for people; ``name`` is what configurations call it.
        Options: a frozen dataclass: its fields, types and defaults may be read with
            ``dataclasses.fields`` and ``typing.get_type_hints``.
    """

    name: str
    title: str
    licence: str
    origin: str
    Options: type[Any]

    def check_place(self, options: Any) -> None:  # noqa: B027 - most name no place
        """Make sure that the place on this machine that the options name, if any, has the data.

        The process that begins a run calls it: a worker may lack the place and have the prepared
        data.

        Raises:
            DataMissingError: it does not exist, or lacks what the options ask for.
        """

    def is_ready(self, options: Any, data_dir: Path) -> bool:
        """Return whether the data can be opened without downloading anything."""
        return True

    def prepare(self, options: Any, data_dir: Path, progress: Progress) -> PreparedData | None:
        """Download and prepare what is missing; None for data that are computed.

        Raises:
            DataError: the download failed, or the data are damaged.
        """
        return None

    def open_classes(self, options: Any, data_dir: Path) -> ClassData | None:
        """Open arrays, classes and splits; None for data without. Raises as ``open_source``."""
        return None

    @abstractmethod
    def open_source(self, options: Any, data_dir: Path) -> EpisodeSource:
        """Open the data for sampling.

        Raises:
            DataMissingError: they are not on this machine; the message says how to get them.
            DataCorruptError: they are damaged and cannot be rebuilt.
        """

    @abstractmethod
    def digest(self, options: Any, data_dir: Path) -> str:
        """Return the sha256 of what a run depends on."""

    @abstractmethod
    def summarise(self, options: Any, data_dir: Path) -> DataSummary:
        """Count what is there."""


class ItemDataSet(DataSet):
    """A data set of classes of items, which are stored: a subclass prepares and opens them."""

    @abstractmethod
    def prepare(self, options: Any, data_dir: Path, progress: Progress) -> PreparedData:
        """Download and prepare what is missing. Raises as that of ``DataSet``."""

    @abstractmethod
    def open_classes(self, options: Any, data_dir: Path) -> ClassData:
        """Open arrays, classes and splits, prepared first if need be; raises as ``open_source``."""

    def open_source(self, options: Any, data_dir: Path) -> EpisodeSource:
        """Open the items for sampling."""
        return self.open_classes(options, data_dir).open_source()

    def digest(self, options: Any, data_dir: Path) -> str:
        """Return the sha256 of the chosen modalities and the split."""
        return self.open_classes(options, data_dir).digest()

    def summarise(self, options: Any, data_dir: Path) -> DataSummary:
        """Count classes and items."""
        data = self.open_classes(options, data_dir)
        return data.summarise(licence=self.licence, origin=self.origin)
