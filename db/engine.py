"""One open database: sessions from a URL, with errors a person can act on."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from db.connection import is_sqlite, make_engine, parse_url, reader_of
from db.failures import shown, translated
from db.records import SchemaStatus
from db.schema import read_status, refuse_newer, status, upgrade
from metafleet.errors import DatabaseError


class Database:
    """An open database. Thread-safe; each session belongs to one thread.

    Made by ``Database.open``; a context manager that closes itself.
    """

    def __init__(self, url: URL, engine: Engine) -> None:
        self._url = url
        self._engine = engine
        self._reader = reader_of(engine)

    @classmethod
    def open(cls, url: str, *, require_current: bool = True) -> Self:
        """Open a database; an SQLite file that does not exist yet is made with its tables.

        Args:
            url: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.
            require_current: refuse tables that are missing or older than this code needs; newer
                ones are refused always.

        Raises:
            DatabaseError: one line saying what is wrong and what to do, without the password.
        """
        parsed = parse_url(url)
        found = status(url)
        if is_sqlite(parsed) and not found.has_tables:
            found = upgrade(url)
        refuse_newer(found, parsed)
        if require_current and not found.is_current:
            raise DatabaseError(_not_current(found, parsed))
        return cls(parsed, make_engine(parsed))

    @property
    def url(self) -> str:
        """The URL without its password, for messages."""
        return shown(self._url)

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Open a transaction: committed when the block ends, rolled back when it raises.

        Args:
            read_only: do not wait for writers; writing in the block is a mistake.

        Raises:
            DatabaseUnavailableError: the database is away, locked or full; try again later.
            DatabaseError: it refuses for good.
        """
        engine = self._reader if read_only else self._engine
        with (
            translated(self._url),
            Session(engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def status(self) -> SchemaStatus:
        """Read the revision of the tables."""
        with translated(self._url), self._reader.connect() as connection:
            return read_status(connection)

    def close(self) -> None:
        """Close the idle connections; harmless when done twice."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
