"""What a data set is, and what ``metafleet data inspect`` says of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from metafleet.data.prepared import PreparedData
from metafleet.sampling import EpisodeSource

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, amount done, amount in all); 0 in all: not known."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What one split holds.

    Attributes:
        classes: number of classes.
        items: number of items over all its classes.
        fewest_items, most_items: over its classes; k_shot + n_query can be at most ``most_items``.
        groups: group (script, alphabet) -> number of classes.
    """

    classes: int
    items: int
    fewest_items: int
    most_items: int
    groups: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModalitySummary:
    """What one modality holds.

    Attributes:
        shape: shape of one example.
        items: items that have it; the others are all zeros.
    """

    shape: tuple[int, ...]
    items: int


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What is known of a data set with given options.

    Attributes:
        name: the data set's name.
        digest: sha256 of the chosen modalities and the split; runs record it.
        split_sha256: sha256 of the split alone; "" where splits are not lists of classes.
        location: folder of the prepared data; None when nothing is stored.
        licence: under which the data come.
        origin: where the data come from, and how to get them.
        splits: split -> its classes; empty for regression.
        modalities: modality -> what is there, also those not chosen.
        facts: further facts to print, such as versions and counts of what was left out.
    """

    name: str
    digest: str
    split_sha256: str
    location: Path | None
    licence: str
    origin: str
    splits: Mapping[str, SplitSummary]
    modalities: Mapping[str, ModalitySummary]
    facts: Mapping[str, str]


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
