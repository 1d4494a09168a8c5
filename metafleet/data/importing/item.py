"""One example of the user's: its class, its split, and the parts it consists of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from metafleet.data.importing.part import Part
from metafleet.data.importing.problems import DataProblem


@dataclass(frozen=True, slots=True)
class Item:
    """One example.

    Attributes:
        where: the row or file that it comes from, for messages: "metadata.csv:17".
        label: its class; "" where it has none.
        parts: modality -> its bytes; what is not there is missing. Before modalities are named,
            column -> bytes.
        split: of ``metafleet.episode.SPLITS``, as the folder says it; "" where it says nothing.
        group: what the class belongs to; "" for nothing.
    """

    where: str
    label: str
    parts: Mapping[str, Part]
    split: str = ""
    group: str = ""

    def begin(self, part: Part) -> str:
        """Begin a message on a part: with its name, unless ``where`` has said it."""
        return "" if part.name == self.where else f"{part.name} "


@dataclass(frozen=True, slots=True)
class Reading:
    """What a folder holds, before anything is decoded.

    Attributes:
        layout: how it was read, of ``LAYOUTS``.
        items: in the order of the folder.
        kinds: modality -> kind of decoder, by kind and then by name.
        problems: everything that is wrong with it so far.
        notes: what was decided and is worth saying, one line each.
        fingerprint: sha256 of what was found: names, sizes, times, classes, splits.
        columns: modality -> the column of the table, or the name among the files, that it is from.
        labels: all classes that were seen, also those of which every item was refused.
    """

    layout: str
    items: tuple[Item, ...]
    kinds: Mapping[str, str]
    problems: tuple[DataProblem, ...] = ()
    notes: tuple[str, ...] = field(default=())
    fingerprint: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def lost_classes(self, kept: Iterable[Item]) -> tuple[str, ...]:
        """Return the classes that have no item among those that can be used."""
        there = {item.label for item in kept}
        return tuple(label for label in self.labels if label not in there)

    def say_lost(self, kept: Iterable[Item]) -> list[str]:
        """Say of each of these that it is left out."""
        return [
            f"class {name!r} is left out: none of its items can be used"
            for name in self.lost_classes(kept)
        ]
