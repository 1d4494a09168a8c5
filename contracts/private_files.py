"""What is in METAFLEET_HOME is its user's alone, whatever the umask says.

It holds passwords (the stack file), rows and configurations, and data that may be personal. What a
command writes elsewhere, where its user told it to, has the mode that the umask leaves.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077
_OURS: Final = (
    *("runs", "data", "programs", "logs", "heartbeats", "stack.json", ".stack-*", ".doctor"),
    *("crash-*.log", "metafleet.db", "metafleet.db-*"),
)
"""What a home holds of ours: nothing else is touched, for it may be somebody's home directory."""


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
    so does the folder itself when it holds anything that is not ours.
    """
    with contextlib.suppress(OSError):
        entries = list(home.iterdir())
        for entry in entries:
            if _is_ours(entry):
                _tighten_below(entry)
        if all(_is_ours(entry) for entry in entries):
            _close(home)


def _is_ours(entry: Path) -> bool:
    return any(entry.match(pattern) for pattern in _OURS)


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
