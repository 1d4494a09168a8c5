"""A data set with its options and its place on this machine: everything done with one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metafleet.data.base import DataSet
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.summary import DataSummary, Progress, no_progress
from metafleet.episodes.source import EpisodeSource


@dataclass(frozen=True, slots=True)
class BoundData:
    """A data set whose options are checked; ``open_data`` makes it.

    Attributes:
        dataset: the data set.
        options: its own options object.
        data_dir: folder of the prepared data.
    """

    dataset: DataSet
    options: Any
    data_dir: Path

    def check_place(self) -> None:
        """Make sure that the place on this machine that the options name, if any, has the data.

        ``open_source`` and ``digest`` do without it where the data were prepared before, as on a
        worker's host; the host that begins a run checks it.

        Raises:
            DataMissingError: the place does not exist, or lacks what the options ask for.
        """
        self.dataset.check_place(self.options)

    def is_ready(self) -> bool:
        """Return whether the data can be opened without downloading anything."""
        return self.dataset.is_ready(self.options, self.data_dir)

    def prepare(self, progress: Progress | None = None) -> PreparedData | None:
        """Download and prepare what is missing; None for data that are computed.

        Safe to repeat and to run in several processes at once.

        Raises:
            DataError: the download failed, the data are damaged or cannot be written.
        """
        return self.dataset.prepare(self.options, self.data_dir, progress or no_progress)

    def open_classes(self) -> ClassData | None:
        """Open arrays, classes and splits; None for data without. Raises as ``open_source``."""
        return self.dataset.open_classes(self.options, self.data_dir)

    def open_source(self) -> EpisodeSource:
        """Open the data for sampling; prepares them first where that needs no download.

        Raises:
            DataMissingError: the data are not on this machine; the message says how to get them.
            DataCorruptError: they are damaged and cannot be rebuilt.
        """
        return self.dataset.open_source(self.options, self.data_dir)

    def digest(self) -> str:
        """Return the sha256 of the chosen modalities and the split. Quick once prepared.

        Raises:
            DataMissingError, DataCorruptError: as ``open_source``.
        """
        return self.dataset.digest(self.options, self.data_dir)

    def summarise(self) -> DataSummary:
        """Count what is there, for people. Raises as ``open_source``."""
        return self.dataset.summarise(self.options, self.data_dir)

    def verify(self) -> None:
        """Read every prepared byte and compare it with its sha256.

        Raises:
            DataCorruptError: something differs; or as ``open_source``.
        """
        data = self.open_classes()
        if data is not None:
            data.prepared.verify()
