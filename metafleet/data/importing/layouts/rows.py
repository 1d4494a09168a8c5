"""Convert rows of manifests to items."""

import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.split_names import find_split
from metafleet.data.importing.layouts.walking import entries_in
from metafleet.data.importing.part import FilePart, InlinePart, Part, find_file
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.tables.columns import Roles
from metafleet.data.importing.tables.table import Row, Table, text_of

_SOUNDS = (b"RIFF", b"fLaC", b"OggS", b"ID3\x03", b"ID3\x04")


@dataclass(frozen=True, slots=True)
class RowReader:
    """Converts rows to items. It logs the problems of a row and leaves the row out.

    Attributes:
        folder: the folder to which names are relative.
        roles: the roles of the columns.
        log: log for the problems.
        bases: folders in which files are searched for, in this order. Their names are relative to
            ``folder``.
        is_labelled: whether every row must have a class. If False, classes are optional.
        labels: classes of all rows, including the rows that were refused.
        listings: cache of folder contents, as folder -> lower-case name -> name.
    """

    folder: Path
    roles: Roles
    log: ProblemLog
    bases: Sequence[str]
    is_labelled: bool = True
    labels: dict[str, None] = field(default_factory=dict)
    listings: dict[str, dict[str, str]] = field(default_factory=dict)

    def read(self, table: Table, *, split: str = "") -> list[Item]:
        """Read the rows of one table; ``split`` applies to rows that give none."""
        found = (self._item(row, split) for row in table.rows)
        return [item for item in found if item is not None]

    def _item(self, row: Row, split: str) -> Item | None:
        label = self._label(row)
        self.labels.update({label: None} if label else {})
        own_split = self._split(row)
        parts = self._parts(row)
        if label is None or own_split is None or parts is None:
            return None
        if not parts:
            self.log.add("empty-item", row.where, "has no file, text or number; fill or delete it")
            return None
        return Item(row.where, label, parts, own_split or split)

    def _label(self, row: Row) -> str | None:
        if not self.roles.label:
            return ""
        value = row.values.get(self.roles.label)
        label = text_of(value)
        if not self.is_labelled:
            return label or ""
        if label is None:
            kind = type(value).__name__
            self.log.add("bad-label", row.where, f"{self.roles.label!r} is a {kind}; give a text")
        elif not label:
            self.log.add("empty-label", row.where, f"{self.roles.label!r} is empty; name the class")
        return label or None

    def _split(self, row: Row) -> str | None:
        if not self.roles.split:
            return ""
        name = text_of(row.values.get(self.roles.split))
        if not name:
            return ""
        split = find_split(name)
        if not split:
            self.log.add(
                "unknown-split",
                row.where,
                f"{self.roles.split!r} is {name!r}; expected train, val or test",
            )
        return split or None

    def _parts(self, row: Row) -> dict[str, Part] | None:
        """Return the row's part of each modality; None if one is broken."""
        before = len(self.log)
        roles = self.roles
        parts = {
            **{name: self._from_file(row, column) for name, column in roles.files.items()},
            **{name: self._from_text(row, column) for name, column in roles.texts.items()},
            **{name: self._from_numbers(row, name, c) for name, c in roles.numbers.items()},
        }
        if len(self.log) > before:
            return None
        return {name: part for name, part in parts.items() if part is not None}

    def _from_file(self, row: Row, column: str) -> Part | None:
        value = row.values.get(column)
        embedded = embedded_file(value)
        if embedded is not None:
            return InlinePart(f"{row.where}/{column}{embedded[0]}", embedded[1])
        name = text_of(value.get("path") if isinstance(value, Mapping) else value)
        if name is None:
            self._note_kind("missing-file", row, column, "the path of a file")
        return self._file(row, column, name) if name else None

    def _from_text(self, row: Row, column: str) -> Part | None:
        text = text_of(row.values.get(column))
        if text is None:
            self._note_kind("bad-text", row, column, "a text")
        return InlinePart(f"{row.where}/{column}.txt", text.encode()) if text else None

    def _from_numbers(self, row: Row, modality: str, columns: Sequence[str]) -> Part | None:
        numbers = self._numbers(row, columns)
        text = ",".join(map(repr, numbers))
        return InlinePart(f"{row.where}/{modality}.csv", text.encode()) if numbers else None

    def _note_kind(self, problem: str, row: Row, column: str, expected: str) -> None:
        kind = type(row.values.get(column)).__name__
        self.log.add(problem, row.where, f"{column!r} is a {kind}; expected {expected}")

    def _file(self, row: Row, column: str, name: str) -> FilePart | None:
        path = name.replace("\\", "/")
        if posixpath.isabs(path):
            path = posixpath.relpath(path, self.folder.as_posix())
            bases: Sequence[str] = ("",)
        else:
            bases = self.bases
        inside = [
            p
            for p in (posixpath.normpath(posixpath.join(b, path)) for b in bases)
            if p != ".." and not p.startswith("../")
        ]
        if not inside:
            self.log.add(
                "outside-folder",
                row.where,
                f"{column!r} is {name!r}, outside the folder; import a folder that holds both",
            )
            return None
        found = next((f for f in (find_file(self.folder, p) for p in inside) if f), None)
        if found is None:
            why = f"{column!r} is {name!r}, which is not there"
            self.log.add("missing-file", row.where, why + self._nearly(inside))
        return found

    def _nearly(self, names: Sequence[str]) -> str:
        """Return text on what exists in place of a missing file, such as a name in another case."""
        for name in names:
            folder, _, last = name.rpartition("/")
            if folder not in self.listings:
                there = entries_in(self.folder / folder)
                self.listings[folder] = {entry.lower(): entry for entry in there}
            alike = self.listings[folder].get(last.lower())
            if alike == last:
                return " as a file: it is a folder, a pipe or a device"
            if alike is not None:
                return f", but {alike!r} is: mind upper and lower case"
        return ""

    def _numbers(self, row: Row, columns: Sequence[str]) -> list[float]:
        """Return the numbers of a row; [] if all cells are empty, or if a logged one is invalid."""
        cells: list[Any] = []
        for column in columns:
            value = row.values.get(column)
            cells.extend(value if isinstance(value, list) else [value])
        if all(text_of(cell) == "" for cell in cells):
            return []
        numbers = []
        for cell in cells:
            number = _number(cell)
            if number is None:
                self.log.add(
                    "bad-number", row.where, f"{cell!r} is no finite number; fix or delete the row"
                )
                return []
            numbers.append(number)
        return numbers


def embedded_file(value: Any) -> tuple[str, bytes] | None:
    """Return suffix and bytes of a file in a cell {"bytes", "path"}; None for any other cell.

    Hugging Face's Parquet files store pictures and sounds this way, sometimes without a path.
    """
    content = value.get("bytes") if isinstance(value, Mapping) else None
    if not isinstance(content, bytes):
        return None
    suffix = posixpath.splitext(str(value.get("path") or ""))[1]
    return suffix or (".wav" if content[:4] in _SOUNDS else ".png"), content


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
