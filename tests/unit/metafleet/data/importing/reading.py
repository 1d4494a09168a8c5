"""Reading a folder without decoding it."""

from pathlib import Path

from metafleet.data.importing.item import Reading
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items


def read(path: Path, **options: object) -> Reading:
    reading = read_items(path, FolderOptions(path=str(path), **options))  # type: ignore[arg-type]
    assert not reading.problems
    return reading


def splits(reading: Reading) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in reading.items:
        found.setdefault(item.split, set()).add(item.label)
    return found
