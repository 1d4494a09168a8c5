"""A data set that uses given prepared data. It reads, prepares and encodes nothing."""

from pathlib import Path
from typing import Any

from metafleet.data.base import ItemDataSet
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.summary import Progress


class GivenData(ItemDataSet):
    """A data set whose prepared data are already open; see ``metafleet.data.prepared.data_ref``.

    Args:
        data: the opened data.
    """

    title = licence = origin = "given"
    Options = object

    def __init__(self, data: ClassData) -> None:
        self.name, self._data = data.name, data

    def prepare(self, options: Any, data_dir: Path, progress: Progress) -> PreparedData:
        """Return the prepared data."""
        return self._data.prepared

    def open_classes(self, options: Any, data_dir: Path) -> ClassData:
        """Return the data."""
        return self._data
