"""Progress of preparing a data set, and summary of its contents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Progress = Callable[[str, int, int], None]
"""Called with (stage, amount done, total amount); a total of 0 means unknown."""

ENCODING: Final = "encoding"
"""The stage in which a pretrained encoder computes features."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """The contents of one split.

    Attributes:
        classes: number of classes.
        items: number of items over all classes of the split.
        fewest_items, most_items: number of items in the split's smallest class and in its largest
            class. k_shot + n_query can be at most ``most_items``.
        groups: group (script, alphabet) -> number of classes.
        present: modality -> number of items that have it, for modalities that some items lack.
        class_items: class -> number of its items.
    """

    classes: int
    items: int
    fewest_items: int
    most_items: int
    groups: Mapping[str, int]
    present: Mapping[str, int]
    class_items: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModalitySummary:
    """The contents of one modality.

    Attributes:
        shape: shape of one example.
        items: number of items that have the modality. All other items have zeros as the modality's
            values.
        kind: kind of data, such as "image" or "audio".
    """

    shape: tuple[int, ...]
    items: int
    kind: str


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Summary of a data set with given options.

    Attributes:
        name: the data set's name.
        digest: sha256 over the chosen modalities and the split. Every run records this digest.
        split_sha256: sha256 of the split alone; "" if splits are not lists of classes.
        location: folder of the prepared data; None if nothing is stored.
        licence: licence of the data.
        origin: where the data come from, and how to get them.
        splits: split -> its summary; empty for computed functions.
        modalities: modality -> its summary, including modalities that are not chosen.
        facts: further facts to print, such as versions, and counts of items that were left out.
        nouns: three words: for one class, for several classes, and for items.
    """

    name: str
    digest: str
    licence: str
    origin: str
    splits: Mapping[str, SplitSummary]
    modalities: Mapping[str, ModalitySummary]
    facts: Mapping[str, str]
    split_sha256: str = ""
    location: Path | None = None
    nouns: tuple[str, str, str] = ("class", "classes", "items")
