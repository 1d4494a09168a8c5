"""What is said of a data set: how far its preparation is, and what it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
        present: modality -> items that have it, of those with gaps.
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
    """What one modality holds.

    Attributes:
        shape: shape of one example.
        items: items that have it; the others are all zeros.
        kind: what it holds: "image", "audio", ...
    """

    shape: tuple[int, ...]
    items: int
    kind: str


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
        nouns: what a class, classes and items are called.
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
