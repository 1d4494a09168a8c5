"""List the files of a folder, in an order that does not depend on the file system."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog

_CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


def files_below(folder: Path, name: str, log: ProblemLog) -> Iterator[FilePart]:
    """Yield every file below ``folder/name``, sorted by name, without hidden files.

    Args:
        folder: the folder to which names are relative.
        name: name of the folder to list, with "/" between parts; "" is ``folder`` itself.
        log: log for problems. A folder that cannot be read is a problem, and so is a cycle of
            links.
    """
    yield from _below(folder, name, log, above=())


def _below(
    folder: Path, name: str, log: ProblemLog, *, above: tuple[tuple[int, int], ...]
) -> Iterator[FilePart]:
    try:
        here = (folder / name).stat()
        entries = sorted(os.scandir(folder / name), key=lambda entry: entry.name)
    except OSError as error:
        log.add("unreadable-file", name or ".", f"cannot be opened ({error.strerror})")
        return
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        log.add("unreadable-file", name, "is a link to a folder that it lies in; delete the link")
        return
    for entry in entries:
        if is_clutter(entry.name):
            continue
        inner = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            yield from _below(folder, inner, log, above=(*above, identity))
        elif entry.is_file():
            found = entry.stat()
            yield FilePart(Path(entry.path), inner, found.st_size, found.st_mtime_ns)
        else:
            log.add("missing-file", inner, _no_file(entry))


def _no_file(entry: os.DirEntry[str]) -> str:
    if os.path.exists(entry.path):
        return "is a pipe, a socket or a device; expected a file: delete it"
    return "is a link that leads nowhere; repair or delete it"


def is_clutter(name: str) -> bool:
    """Return whether a file or folder is hidden or was created by a desktop."""
    return name.startswith(".") or name in _CLUTTER


def is_empty(folder: Path) -> bool:
    """Return whether ``folder`` holds nothing but clutter; False if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return all(is_clutter(entry.name) for entry in entries)
    except OSError:
        return False


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder``, sorted; [] if it cannot be read."""
    return _names(folder, lambda entry: entry.is_dir())


def files_in(folder: Path) -> list[str]:
    """Return the names of the files in ``folder``, sorted; [] if it cannot be read."""
    return _names(folder, lambda entry: entry.is_file())


def entries_in(folder: Path) -> list[str]:
    """Return the names of all entries of ``folder``, sorted; [] if it cannot be read."""
    return _names(folder, lambda entry: True)


def _names(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    try:
        return sorted(e.name for e in os.scandir(folder) if not is_clutter(e.name) and wanted(e))
    except OSError:
        return []
