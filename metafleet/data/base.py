"""What a data set is."""

from pathlib import Path
from typing import Any, Protocol

from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.summary import DataSummary, Progress
from metafleet.episodes.source import EpisodeSource


class DataSet(Protocol):
    """One data set; stateless, so all methods are safe in any thread and process.

    Options are a frozen dataclass, ``Options``: its fields, types and defaults may be read with
    ``dataclasses.fields`` and ``typing.get_type_hints``. ``prepare``, ``open_source``, ``digest``
    and ``summarise`` prepare what is not yet prepared if that needs no download.
    """

    name: str
    title: str
    licence: str
    origin: str
    Options: type[Any]

    def check_origin(self, options: Any) -> None:
        """Make sure that the place on this machine that the options name, if any, has the data.

        For whoever begins a run: a worker may lack the place and have the prepared data.

        Raises:
            DataMissingError: it does not exist, or lacks what the options ask for.
        """
        ...

    def is_ready(self, options: Any, data_dir: Path) -> bool:
        """Tell whether the data can be opened without downloading anything."""
        ...

    def prepare(
        self, options: Any, data_dir: Path, progress: Progress | None = None
    ) -> PreparedData | None:
        """Download and prepare what is missing; None for data that are computed.

        Raises:
            DataError: the download failed, or the data are damaged.
        """
        ...

    def open_classes(
        self, options: Any, data_dir: Path, progress: Progress | None = None
    ) -> ClassData | None:
        """Open arrays, classes and splits; None for regression. Raises as ``open_source``."""
        ...

    def open_source(self, options: Any, data_dir: Path) -> EpisodeSource:
        """Open the data for sampling.

        Raises:
            DataMissingError: they are not on this machine; the message says how to get them.
            DataCorruptError: they are damaged and cannot be rebuilt.
        """
        ...

    def digest(self, options: Any, data_dir: Path) -> str:
        """Return the sha256 of the chosen modalities and the split."""
        ...

    def summarise(self, options: Any, data_dir: Path) -> DataSummary:
        """Count what is there."""
        ...
