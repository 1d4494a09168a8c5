"""Holds an SQLite file open, detects that it was deleted or replaced, and can restore it.

A file that was deleted or replaced keeps working for processes that have it open, but their writes
to it are lost when they end.
"""

import contextlib
import os
import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Any, Final

from filelock import FileLock
from sqlalchemy import Connection, Engine, text

_BESIDE: Final = ("", "-wal", "-shm")
_Inode = tuple[int, int] | None
_UNKNOWN: Final = (-1, -1)


class OpenFile:
    """Holds an SQLite file open, so that no other file can get the same inode. Thread-safe.

    Args:
        reader: engine with read-only transactions.
        path: the file.

    Raises:
        SQLAlchemyError: the file cannot be read.
    """

    def __init__(self, reader: Engine, path: Path) -> None:
        self._path = path
        self._held: Connection = reader.connect()
        try:
            # the first read opens the log and its index
            self._held.execute(text("SELECT count(*) FROM sqlite_master"))
            self._held.rollback()
        except BaseException:
            self._held.close()
            raise
        self._inodes = _inodes(path)
        self._mode = _mode(path)

    @property
    def is_moved(self) -> bool:
        """Whether the path, or that of the write-ahead log, now names another file or none."""
        return any(
            now not in (before, _UNKNOWN)
            for now, before in zip(_inodes(self._path), self._inodes, strict=True)
            if before not in (None, _UNKNOWN)
        )

    def put_back(self) -> bool:
        """Write a complete copy of the file to its path. Return False if a file exists there.

        Race prevented: two processes restore the file at the same time. The second process finds
        the file that the first process wrote, and does not replace this file.

        Raises:
            OSError, sqlite3.Error: the copy cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.put-back.lock", timeout=60):
            if self._path.exists():
                return False
            for name in _BESIDE[1:]:  # this log has pages of the lost file
                Path(f"{self._path}{name}").unlink(missing_ok=True)
            handle, copy = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            os.close(handle)
            try:
                self._copy_to(copy)
                with contextlib.suppress(OSError):  # a file system without modes
                    os.chmod(copy, self._mode)
                return _move_new(copy, self._path)
            finally:
                Path(copy).unlink(missing_ok=True)

    def _copy_to(self, path: str) -> None:
        driver: Any = self._held.connection.driver_connection
        with contextlib.closing(sqlite3.connect(path)) as copy:
            driver.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # so that everything is in one file

    def close(self) -> None:
        """Close the file."""
        self._held.close()


def _move_new(source: str, path: Path) -> bool:
    """Move a file to ``path``. Return False if a file exists there."""
    try:
        os.link(source, path)  # unlike a rename, this never replaces a file
    except FileExistsError:
        return False
    except OSError:  # exFAT and some network file systems have no links
        if path.exists():
            return False
        os.rename(source, path)
    return True


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:  # already lost
        return 0o600


def _inodes(path: Path) -> tuple[_Inode, ...]:
    return tuple(_inode(f"{path}{name}") for name in _BESIDE)


def _inode(path: str) -> _Inode:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # the file cannot be accessed now, which does not mean that it moved
        return _UNKNOWN
    return (found.st_dev, found.st_ino)
