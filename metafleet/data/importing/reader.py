"""Arguments and result of a layout reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metafleet.data.importing.item import Item
from metafleet.data.importing.kinds import Kinds
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.problems import ProblemLog


@dataclass(frozen=True, slots=True)
class Place:
    """The argument of a reader.

    Attributes:
        folder: the folder to which all names are relative.
        files: names of the manifests, archives or JSON files to read; () for folders of files.
        ask: the options.
        is_labelled: whether every item must have a class. If False, classes are optional.
        expected: the modalities of the model that will use the items, modality -> kind; {} if there
            is no model.
        kinds: the kinds that files may have.
    """

    folder: Path
    files: tuple[str, ...]
    ask: FolderOptions
    is_labelled: bool = True
    expected: Mapping[str, str] = field(default_factory=dict)
    kinds: Kinds = field(default_factory=Kinds)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a reader.

    Attributes:
        items: the items. The keys of their parts are columns. The name of a column is the name of a
            modality or of a kind, or "".
        notes: decisions to show to the user.
        columns: column of the items' parts -> its name in the table, if there is a table.
        labels: classes that the reader found, including the classes whose items were all refused.
    """

    items: list[Item]
    notes: list[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


Reader = Callable[[Place, ProblemLog], Found]
"""Reads one layout; it logs problems and reads the rest."""
