"""A data set bound to its options and its folder on this machine."""

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
    """A data set with checked options. ``open_data`` creates it.

    Attributes:
        dataset: the data set.
        options: its options object.
        data_dir: folder of the prepared data.
    """

    dataset: DataSet
    options: Any
    data_dir: Path

    def check_place(self) -> None:
        """If the options name a path, check that the path exists on this machine and has the data.

        If the data are already prepared, ``open_source`` and ``digest`` do not need the path, so
        they would not notice that it is missing. The host that starts a run therefore calls this
        method.

        Raises:
            DataMissingError: the path does not exist, or lacks data that the options select.
        """
        self.dataset.check_place(self.options)

    def is_ready(self) -> bool:
        """Return whether the data can be opened without downloading anything."""
        return self.dataset.is_ready(self.options, self.data_dir)

    def prepare(self, progress: Progress | None = None) -> PreparedData | None:
        """Download and prepare missing data; return None for computed data.

        This is safe to call repeatedly, and in several processes at once.

        Raises:
            DataError: the download failed, or the data are damaged or cannot be written.
        """
        return self.dataset.prepare(self.options, self.data_dir, progress or no_progress)

    def open_classes(self) -> ClassData | None:
        """Open arrays, classes and splits; None if there are none. Raises like ``open_source``."""
        return self.dataset.open_classes(self.options, self.data_dir)

    def open_source(self) -> EpisodeSource:
        """Open the data for sampling; prepare them first if that needs no download.

        Raises:
            DataMissingError: the data are not on this machine; the message says how to get them.
            DataCorruptError: the data are damaged and cannot be rebuilt.
        """
        return self.dataset.open_source(self.options, self.data_dir)

    def digest(self) -> str:
        """Return one sha256 of the chosen modalities and the split; fast for prepared data.

        Raises:
            DataMissingError, DataCorruptError: for the same reasons as ``open_source``.
        """
        return self.dataset.digest(self.options, self.data_dir)

    def summarise(self) -> DataSummary:
        """Return a summary of the data for users. Raises like ``open_source``."""
        return self.dataset.summarise(self.options, self.data_dir)

    def verify(self) -> None:
        """Read every prepared byte and compare it with its sha256.

        Raises:
            DataCorruptError: a file differs. ``verify`` also raises the errors of ``open_source``.
        """
        data = self.open_classes()
        if data is not None:
            data.prepared.verify()
