"""One example of a user's data: its class, split and parts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from metafleet.data.importing.part import Part
from metafleet.data.importing.problems import DataProblem
from metafleet.data.label_text import labels_in


@dataclass(frozen=True, slots=True)
class Item:
    """One example.

    Attributes:
        where: the row or file from which the example comes, such as "metadata.csv:17", for
            messages.
        label: the example's class; "" if it has none.
        parts: modality -> the part with its bytes. A modality that the example lacks has no key.
            Until the modalities are named, the keys are columns instead of modalities.
        split: the split that the folder gives, one of ``metafleet.episode.SPLITS``; "" if it gives
            none.
        group: the group to which the class belongs; "" for none.
    """

    where: str
    label: str
    parts: Mapping[str, Part]
    split: str = ""
    group: str = ""

    def begin(self, part: Part) -> str:
        """Return the start of a message about a part: its name, unless ``where`` is its name."""
        return "" if part.name == self.where else f"{part.name} "


@dataclass(frozen=True, slots=True)
class Reading:
    """The contents of a folder, before anything is decoded.

    Attributes:
        layout: the layout with which the folder was read, one of ``LAYOUTS``.
        items: the items, in the order of the folder.
        kinds: modality -> kind of decoder, sorted by kind and then by name.
        problems: all problems found so far.
        notes: decisions to show to the user, one line each.
        fingerprint: sha256 of all names, sizes, times, classes and splits.
        columns: modality -> the table column from which it comes; without a table, the reader's
            name for it.
        labels: all classes that were seen, even if all items of a class were refused.
        label_separator: the separator of labels, as in the options.
    """

    layout: str
    items: tuple[Item, ...]
    kinds: Mapping[str, str]
    problems: tuple[DataProblem, ...] = ()
    notes: tuple[str, ...] = field(default=())
    fingerprint: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    label_separator: str = ""

    def lost_classes(self, kept: Iterable[Item]) -> tuple[str, ...]:
        """Return the classes that have no item in ``kept``."""
        there = {it for item in kept for it in labels_in(item.label, self.label_separator)}
        return tuple(label for label in self.labels if label not in there)

    def say_lost(self, kept: Iterable[Item]) -> list[str]:
        """Return a note for each class that has no item in ``kept``."""
        return [
            f"class {name!r} is left out: none of its items can be used"
            for name in self.lost_classes(kept)
        ]
