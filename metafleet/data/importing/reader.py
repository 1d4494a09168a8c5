"""What a reader of a layout is given, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metafleet.data.importing.item import Item
from metafleet.data.importing.kinds import Kinds
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be read, and how.

    Attributes:
        folder: what all names are relative to.
        files: names of the manifests, archives or JSON files to read; () for folders of files.
        ask: the options.
        is_labelled: whether every item needs a class; else classes are read where they are.
        expected: modality -> kind, of a model that the items are for; {}: they are for none.
        kinds: those that files may have.
    """

    folder: Path
    files: tuple[str, ...]
    ask: FolderOptions
    is_labelled: bool = True
    expected: Mapping[str, str] = field(default_factory=dict)
    kinds: Kinds = field(default_factory=Kinds)


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found.

    Attributes:
        items: their parts by column; a column is called after its modality, its kind, or "".
        notes: what was decided and is worth saying.
        columns: column of the items' parts -> what the table calls it, where there is a table.
        labels: classes that were seen, besides those of items: of some, every item was refused.
    """

    items: list[Item]
    notes: list[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


Reader = Callable[[Place, ProblemLog], Found]
"""Reads one layout; what is wrong goes into the log, and the rest is read all the same."""
