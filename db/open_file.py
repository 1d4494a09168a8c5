"""An SQLite file that is held open: whether its path still names it, and what can be saved of it.

A file that was deleted or replaced goes on working for who has it open. Whatever is written there
is gone with the process.
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
    """Holds a connection, so that no other file can get the inodes of this one. Thread-safe.

    Args:
        reader: engine whose transactions read.
        path: the file.

    Raises:
        SQLAlchemyError: it cannot be read.
    """

    def __init__(self, reader: Engine, path: Path) -> None:
        self._path = path
        self._held: Connection = reader.connect()
        try:
            # the log and its index are opened by the first read
            self._held.execute(text("SELECT count(*) FROM sqlite_master"))
            self._held.rollback()
        except BaseException:
            self._held.close()
            raise
        self._inodes = _inodes(path)
        self._mode = _mode(path)

    @property
    def is_moved(self) -> bool:
        """Whether the path, or that of the write-ahead log, names another file by now, or none."""
        return any(
            now not in (before, _UNKNOWN)
            for now, before in zip(_inodes(self._path), self._inodes, strict=True)
            if before not in (None, _UNKNOWN)
        )

    def put_back(self) -> bool:
        """Write a whole copy to the path if nothing is there; False when something is.

        Race prevented: two processes that miss their file; the second finds that of the first.

        Raises:
            OSError, sqlite3.Error: it cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.put-back.lock", timeout=60):
            if self._path.exists():
                return False
            for name in _BESIDE[1:]:  # a log of pages of the lost file
                Path(f"{self._path}{name}").unlink(missing_ok=True)
            handle, copy = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            os.close(handle)
            try:
                self._copy_to(copy)
                with contextlib.suppress(OSError):  # a file system that knows no modes
                    os.chmod(copy, self._mode)
                return _move_new(copy, self._path)
            finally:
                Path(copy).unlink(missing_ok=True)

    def _copy_to(self, path: str) -> None:
        driver: Any = self._held.connection.driver_connection
        with contextlib.closing(sqlite3.connect(path)) as copy:
            driver.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # all of it in the one file

    def close(self) -> None:
        """Let go of the file."""
        self._held.close()


def _move_new(source: str, path: Path) -> bool:
    """Give a file its name unless that is another's; False when it is."""
    try:
        os.link(source, path)  # unlike a rename this replaces nothing
    except FileExistsError:
        return False
    except OSError:  # exFAT and some network file systems know no links
        if path.exists():
            return False
        os.rename(source, path)
    return True


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:  # lost already
        return 0o600


def _inodes(path: Path) -> tuple[_Inode, ...]:
    return tuple(_inode(f"{path}{name}") for name in _BESIDE)


def _inode(path: str) -> _Inode:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it cannot be looked at now, which says nothing of the file
        return _UNKNOWN
    return (found.st_dev, found.st_ino)
