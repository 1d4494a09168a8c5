"""Finds the data sets on this machine. It prepares, downloads and changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from metafleet.data.base import ItemDataSet
from metafleet.data.importing.problems import KINDS
from metafleet.data.importing.record import get_record, imported_names
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import PreparedData, find_prepared
from metafleet.data.registry import DATASETS, is_made_of_parts, open_data
from metafleet.data.stored import StoredDataSet
from metafleet.data.summary import DataSummary
from metafleet.errors import DataError, DataMissingError

IMPORTED, BUILT_IN, OTHER = "imported", "built in", "other options"
_LEFT_OUT: Final = "left out"
_FOLDER: Final = "folder"
_ALL: Final = "all classes"


@dataclass(frozen=True, slots=True)
class FoundSet:
    """A data set that pages show.

    Attributes:
        name: the name in the page's address.
        origin: ``IMPORTED``, ``BUILT_IN``, or ``OTHER`` for a folder of prepared data that neither
            an import nor the default options of a built-in data set refer to.
        title: what the data are, or the imported folder.
        licence: licence of the data; "" if it is unknown.
        data: the prepared data; None if there are none.
        options: name and options of the data set, as in a configuration; {} for ``OTHER``.
        hint: why there are no data, or how to get them; "" if there are data.
        is_computed: whether the data are computed when they are needed, so that nothing is stored.
    """

    name: str
    origin: str
    title: str
    licence: str = ""
    data: ClassData | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    is_computed: bool = False

    def summarise(self) -> DataSummary | None:
        """Return a summary of the data; None if there are none."""
        if self.data is None:
            return None
        return self.data.summarise(licence=self.licence, origin=self.title)

    @property
    def left_out(self) -> str:
        """The problems that the import found, by kind; "" if there were none."""
        return self.data.prepared.facts.get(_LEFT_OUT, "") if self.data else ""

    @property
    def problems(self) -> Sequence[tuple[str, str, str]]:
        """Kind, meaning and first places of each kind of problem that the import found."""
        facts = self.data.prepared.facts if self.data else {}
        start = f"{_LEFT_OUT}, "
        return [
            (kind, KINDS.get(kind, ""), places)
            for fact, places in facts.items()
            if fact.startswith(start)
            for kind in (fact.removeprefix(start),)
        ]

    @property
    def facts(self) -> Mapping[str, str]:
        """What else is known of the data."""
        facts = self.data.prepared.facts if self.data else {}
        return {name: it for name, it in facts.items() if not name.startswith(_LEFT_OUT)}


def find_sets(data_dir: Path) -> list[FoundSet]:
    """Return imported folders, prepared data sets, and built-in ones that are not prepared."""
    named = [*_imported(data_dir), *_built_in(data_dir)]
    known = {found.data.prepared.path.name for found in named if found.data is not None}
    found = [*named, *_others(data_dir, known | {one.name for one in named})]
    order = (IMPORTED, BUILT_IN, OTHER)
    return sorted(found, key=lambda one: (one.data is None, order.index(one.origin)))


def get_set(data_dir: Path, name: str) -> FoundSet:
    """Return one data set.

    Raises:
        DataMissingError: there is none of this name.
    """
    for found in find_sets(data_dir):
        if found.name == name:
            return found
    raise DataMissingError(f"there is no data set {name!r:.80}; the page Data lists all of them")


def _imported(data_dir: Path) -> Iterator[FoundSet]:
    for name in imported_names(data_dir):
        options = {"name": _FOLDER, "imported": name}
        data, title, hint = None, "", ""
        try:
            record = get_record(data_dir, name)
            title = record.options.path
            prepared = find_prepared(data_dir / "prepared" / record.prepared)
            if prepared is None:
                hint = f"not prepared here; run `metafleet data import {title} --name {name}`"
            else:
                data = _whole(name, prepared)
        except DataError as error:
            hint = str(error)
        yield FoundSet(name, IMPORTED, title, "yours", data, options, hint)


def _built_in(data_dir: Path) -> Iterator[FoundSet]:
    for name, dataset in DATASETS.items():
        if name == _FOLDER or is_made_of_parts(name):
            continue
        bound, data, hint = open_data({"name": name}, data_dir), None, ""
        is_computed = not isinstance(dataset, ItemDataSet)
        prepared = dataset.find_prepared(bound.options, data_dir)
        if prepared is None:
            hint = "" if is_computed else f"not prepared; run `metafleet data prepare {name}`"
        elif isinstance(dataset, StoredDataSet):
            splits = dataset.splits(bound.options, prepared)
            data = ClassData(name, prepared, splits, bound.options.modalities)
        else:
            data = bound.open_classes()
        yield FoundSet(
            name,
            BUILT_IN,
            dataset.title,
            dataset.licence,
            data,
            {"name": name},
            hint,
            is_computed,
        )


def _others(data_dir: Path, known: set[str]) -> Iterator[FoundSet]:
    for folder in sorted((data_dir / "prepared").glob("[!.]*-*")):
        if folder.name in known:
            continue
        try:
            prepared = find_prepared(folder)
        except DataError as error:
            yield FoundSet(folder.name, OTHER, "", hint=str(error))
            continue
        if prepared is not None:
            title = prepared.facts.get("source", "prepared with other options than the defaults")
            yield FoundSet(folder.name, OTHER, title, data=_whole(folder.name, prepared))


def _whole(name: str, prepared: PreparedData) -> ClassData:
    """Return prepared data with all their modalities, and with their splits if they store any."""
    splits = prepared.splits or {_ALL: tuple(info.name for info in prepared.classes)}
    separator = str(prepared.recipe.get("label_separator", ""))
    return ClassData(name, prepared, splits, tuple(prepared.arrays), label_separator=separator)
