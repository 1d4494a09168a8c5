"""Find links that lead out of a folder: their targets are read, but are not in the folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from metafleet.data.importing.item import Item
from metafleet.data.importing.part import FilePart, SlicePart
from metafleet.data.importing.problems import one_line

LINKS = "links out of the folder: "


def links_out(path: Path, items: Sequence[Item]) -> list[str]:
    """Count the files that links in a folder lead to and that are outside of the folder.

    The result is a list with one note. If there are no such files, it is [].

    Args:
        path: the folder, or a file in it. The path itself may be a link.
        items: the items that were read from the path.
    """
    top = os.path.realpath(path if path.is_dir() else path.parent)
    real: dict[Path, str] = {}
    outside = []
    for file in dict.fromkeys(_files(items)):
        if file.parent not in real:
            real[file.parent] = os.path.realpath(file.parent)
        place = os.path.join(real[file.parent], file.name)
        place = os.path.realpath(place) if os.path.islink(place) else place
        if os.path.commonpath([top, place]) != top:
            outside.append((file, place))
    if not outside:
        return []
    file, place = outside[0]
    return [
        f"{LINKS}{len(outside)} files, such as {one_line(str(file))}, which is "
        f"{one_line(place)}; they are read: delete the links if they should not be"
    ]


def _files(items: Sequence[Item]) -> Iterator[Path]:
    for item in items:
        for part in item.parts.values():
            if isinstance(part, FilePart):
                yield part.path
            elif isinstance(part, SlicePart):
                yield part.archive.path
