"""Keeps the files in METAFLEET_HOME private to their user, whatever the umask is.

The stack file contains passwords. Other files contain database rows, configurations, and data that
may be personal. Files that a command writes elsewhere, at a path chosen by the user, get their mode
from the umask.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077
_UID: Final = "[b-z]" + 7 * "[2-9b-z]"
_KEY: Final = 16 * "[0-9a-f]"
_HASH: Final = 40 * "[0-9a-f]"
_LOGS: Final = (
    "orchestrator.log*",
    "executor.log",
    "supervisor.log",
    "redis.log",
    "flower.log",
    "worker-*.log",
    f"run-{_UID}.log",
)
_OURS: Final = tuple(
    tuple(pattern.split("/"))
    for pattern in (
        "metafleet.db",
        "metafleet.db-*",
        "metafleet.db.put-back.lock",
        ".metafleet.db.*",
        "stack.json",
        ".stack-*",
        ".doctor",
        "crash-*.log",
        f"runs/{_UID}",
        f"data/prepared/*-{_KEY}",
        "data/prepared/.*",
        "data/imported/*.json",
        "data/imported/.*",
        f"programs/*-{_HASH}.so",
        "heartbeats/*-*",
        *(f"{folder}/{name}" for folder in ("logs", "logs/demo") for name in _LOGS),
    )
)
"""The files that we write below METAFLEET_HOME. No others are touched: METAFLEET_HOME may be a
user's home directory, or the folder of a project with data of its own in ``data``."""


def keep_private() -> int:
    """Make new files of this process and its children private; return the previous umask."""
    return os.umask(_OTHERS)


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Make the files that this process creates in the block private to its user."""
    before = keep_private()
    try:
        yield
    finally:
        os.umask(before)


def tighten(home: Path) -> None:
    """Revoke other users' access to ``home``, which an earlier version or a copy may have allowed.

    Folders get mode 0700 and files 0600. Links and files of other users stay as they are. If a
    folder contains a file that metafleet did not create, the folder also stays as it is, even if
    this folder is ``home``.
    """
    _tighten(home, _OURS)


def _tighten(folder: Path, ours: Sequence[tuple[str, ...]]) -> bool:
    """Close our entries, and the folder if all are ours; return whether all are."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return False
    are_ours = [_tighten_entry(entry, ours) for entry in entries]
    if entries and all(are_ours):
        _close(folder)
    return all(are_ours)


def _tighten_entry(entry: Path, ours: Sequence[tuple[str, ...]]) -> bool:
    below = [rest for name, *rest in ours if entry.match(name)]
    if [] in below:
        _tighten_below(entry)
        return True
    is_folder = bool(below) and entry.is_dir() and not entry.is_symlink()
    return is_folder and _tighten(entry, list(map(tuple, below)))


def _tighten_below(path: Path) -> None:
    """Close a path. Descend into a folder only if others could enter it: usually once."""
    if _close(path) and path.is_dir():
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                _close(Path(folder) / name)


def _close(path: Path) -> bool:
    """Close one folder or file to other users. Return whether it was open to them."""
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) or not found.st_mode & _OTHERS:
            return False
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError:  # another user's, or gone, or on a file system without modes
        return False
    return True
