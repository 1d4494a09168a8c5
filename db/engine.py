"""An open database: sessions for a URL, with actionable errors."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from filelock import Timeout
from sqlalchemy import URL, Connection, Engine

from metafleet.db.connection import is_sqlite, make_engine, parse_url, reader_of, sqlite_path
from metafleet.db.failures import shown, translated
from metafleet.db.open_file import OpenFile
from metafleet.db.schema import SchemaStatus, read_status, refuse_newer, status, upgrade
from metafleet.errors import DatabaseError, DatabaseUnavailableError

log = logging.getLogger(__name__)

Keeper = Callable[[Connection], None]
"""Saves the data that must not be lost with a file."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The engines of an open database. ``file`` is None for a server."""

    engine: Engine
    reader: Engine
    file: OpenFile | None

    @property
    def is_moved(self) -> bool:
        return self.file is not None and self.file.is_moved

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.engine.dispose()


class Database:
    """An open database. Thread-safe; each session belongs to one thread.

    If an SQLite file is deleted while it is open, the complete file is restored. If another file
    replaces the open file, the new file is used from then on. Before the new file is used, the
    keepers (see ``kept_by``) can save their data from the old file.

    Create a database with ``Database.open``. It is a context manager that closes itself on exit.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._guard = threading.RLock()  # held while switching to the file that replaced ours
        self._keepers: list[Keeper] = []
        self._is_kept = False
        self._opened: _Opened | None = _open(url)

    @classmethod
    def open(cls, url: str, *, require_current: bool = True) -> Self:
        """Open a database. A missing SQLite file is created with its tables.

        Args:
            url: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.
            require_current: whether to refuse a database whose tables are missing or older than
                this code needs. Newer tables are always refused.

        Raises:
            DatabaseError: the database cannot be opened. The message is one line with the problem
                and the remedy, without the password.
        """
        parsed = parse_url(url)
        _check_tables(parsed, require_current=require_current)
        return cls(parsed)

    @property
    def url(self) -> str:
        """The URL without its password, for messages."""
        return shown(self._url)

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Connection]:
        """Open a transaction. Commit it when the block ends; roll it back when the block raises.

        Args:
            read_only: whether to start without waiting for writers. The block must then not write.

        Raises:
            DatabaseUnavailableError: the database is unreachable, locked or full, or its file was
                replaced (by an unusable file, or during a write). Try again later.
            DatabaseError: the error is permanent.
        """
        opened = self._current()
        engine = opened.reader if read_only else opened.engine
        with translated(self._url), engine.begin() as session:
            yield session
        if not read_only and opened.is_moved:
            raise DatabaseUnavailableError(
                f"database {self.url} was deleted or replaced while it was written to; leave its "
                "file alone, and try again"
            )

    @contextmanager
    def kept_by(self, keeper: Keeper) -> Iterator[None]:
        """During the block, call ``keeper`` with a session on a file that is about to be lost.

        The call is made in the thread that notices the loss, which may be any thread that opens a
        session. The keeper must not open a session itself. If it raises a DatabaseUnavailableError,
        the file stays open and the keeper is called again later.
        """
        with self._guard:
            self._keepers.append(keeper)
        try:
            yield
        finally:
            with self._guard:
                self._keepers.remove(keeper)

    def _current(self) -> _Opened:
        with self._guard:
            if self._opened is None or self._opened.is_moved:
                self._follow()
            assert self._opened is not None
            return self._opened

    def _follow(self) -> None:
        """Switch to the file that replaced ours."""
        with translated(self._url):
            if self._opened is not None:
                self._let_go(self._opened)
            try:
                _check_tables(self._url, require_current=True)
                self._opened = _open(self._url)
            except DatabaseError as error:
                raise DatabaseUnavailableError(
                    f"{error}; it was put in the place of the one in use, so put that one back, or "
                    "delete this one"
                ) from error

    def _let_go(self, lost: _Opened) -> None:
        """Let the keepers save their data from a lost file, restore or replace it, and close it."""
        assert lost.file is not None
        if not self._is_kept:
            for keeper in self._keepers:
                with lost.reader.begin() as session:
                    keeper(session)
            self._is_kept = True
        try:
            is_back = lost.file.put_back()
        except (OSError, sqlite3.Error, Timeout) as error:
            raise DatabaseUnavailableError(
                f"database {self.url} was deleted while in use, and cannot be put back ({error}); "
                "make its folder writable"
            ) from error
        what = "was deleted while in use; put back" if is_back else "was replaced while in use"
        log.warning("database %s %s", self.url, what)
        # close it before opening the other: within a process SQLite identifies files by inode
        self._opened, self._is_kept = None, False
        lost.close()

    def status(self) -> SchemaStatus:
        """Return the revision of the tables."""
        with translated(self._url), self._current().reader.connect() as connection:
            return read_status(connection)

    def close(self) -> None:
        """Close the idle connections. It is safe to call this twice."""
        with self._guard:
            if self._opened is not None:
                self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _open(url: URL) -> _Opened:
    engine = make_engine(url)
    reader = reader_of(engine)
    with translated(url):
        return _Opened(
            engine, reader, OpenFile(reader, sqlite_path(url)) if is_sqlite(url) else None
        )


def _check_tables(url: URL, *, require_current: bool) -> None:
    text = url.render_as_string(hide_password=False)
    found = status(text)
    if is_sqlite(url) and not found.has_tables:
        found = upgrade(text)
    refuse_newer(found, url)
    if require_current and not found.is_current:
        raise DatabaseError(_not_current(found, url))


def _not_current(found: SchemaStatus, url: URL) -> str:
    if found.revision is None and is_sqlite(url):
        return (
            f"database {shown(url)} holds tables, but not metafleet's; "
            "point the URL at a metafleet database or a new file"
        )
    if found.revision is None:
        return f"database {shown(url)} has no tables yet; run `metafleet db upgrade`"
    return (
        f"database {shown(url)} is at revision {found.revision!r}, this version needs "
        f"{found.head!r}; run `metafleet db upgrade`"
    )


__all__ = ["Database", "SchemaStatus", "status", "upgrade"]
