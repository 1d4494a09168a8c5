"""What is in METAFLEET_HOME is its user's alone, whatever the umask says.

It holds passwords (the stack file), rows and configurations, and data that may be personal. What a
command writes elsewhere, where its user told it to, has the mode that the umask leaves.
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
"""What we write below a home. Nothing else is touched: a home may be somebody's home directory, or
the folder of a project, with data of its own in ``data``."""


def keep_private() -> int:
    """Let all that this process and its children make be its user's; returns the umask before."""
    return os.umask(_OTHERS)


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Let what this process makes in the block be its user's alone."""
    before = keep_private()
    try:
        yield
    finally:
        os.umask(before)


def tighten(home: Path) -> None:
    """Take from others what an earlier version, or a copy, let them read or write in ``home``.

    Folders get mode 0700 and files 0600. Links, and what belongs to another user, stay as they are;
    so does a folder, such as ``home`` itself, when it holds anything that is not ours.
    """
    _tighten(home, _OURS)


def _tighten(folder: Path, ours: Sequence[tuple[str, ...]]) -> bool:
    """Close what is ours in a folder, and the folder if that is all; returns whether it is."""
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
    """Close what is open, and look into a folder only where others could: once, as a rule."""
    if _close(path) and path.is_dir():
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                _close(Path(folder) / name)


def _close(path: Path) -> bool:
    """Close one folder or file to others; returns whether it was open to them."""
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) or not found.st_mode & _OTHERS:
            return False
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError:  # another user's, or gone, or on a file system that knows no modes
        return False
    return True
