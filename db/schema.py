"""Reads the revision of the tables and upgrades them."""

import os.path
from contextlib import suppress
from dataclasses import dataclass
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, inspect, text

from metafleet.contracts.private_files import private_files
from metafleet.db.connection import is_sqlite, make_engine, parse_url, reader_of, sqlite_path
from metafleet.db.failures import shown, translated
from metafleet.db.migrations import versions
from metafleet.errors import DatabaseError

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = tuple(
    sorted(module.name[1:5] for module in iter_modules(versions.__path__) if module.name[0] == "r")
)
"""All revisions known to this code, oldest first. It needs the last one."""

_ADVISORY_LOCK = 0x6D657461  # "meta": an arbitrary number that no other program is likely to use


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The revision of a database's tables, compared with the revision that this code needs.

    Attributes:
        revision: the database's revision; None if it has none of our tables.
        head: the revision that this code needs.
        is_current: whether both revisions are equal.
        is_newer: whether a newer version of the code has upgraded the database.
        has_tables: whether the database has any tables, ours or others.
    """

    revision: str | None
    head: str
    is_current: bool
    is_newer: bool
    has_tables: bool


def status(url: str) -> SchemaStatus:
    """Return the status of a database's tables. The database is not changed.

    Raises:
        DatabaseError: the database cannot be reached or read.
    """
    parsed = parse_url(url)
    # os.path, because Path.exists raises if a folder may not be entered
    if is_sqlite(parsed) and not os.path.exists(sqlite_path(parsed)):
        return _status_of(None, has_tables=False)
    engine = make_engine(parsed)
    try:
        with translated(parsed), reader_of(engine).connect() as connection:
            return read_status(connection)
    finally:
        engine.dispose()


def upgrade(url: str) -> SchemaStatus:
    """Upgrade the tables to this code's revision.

    A missing SQLite file and its folder are created. If two processes upgrade at once, the second
    waits, and then finds nothing to do.

    Raises:
        DatabaseError: the database cannot be reached, does not permit the change, or is newer than
            this code.
    """
    parsed = parse_url(url)
    if is_sqlite(parsed):
        _make_folder(parsed)
    engine = make_engine(parsed, enforce_foreign_keys=False)
    try:
        with translated(parsed), engine.begin() as connection:
            return _upgrade_locked(connection, parsed)
    finally:
        engine.dispose()


def read_status(connection: Connection) -> SchemaStatus:
    """Return the revision over an open connection."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        return _status_of(None, has_tables=bool(tables))
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return _status_of(revision, has_tables=True)


def refuse_newer(found: SchemaStatus, url: URL) -> None:
    """Raise DatabaseError if the tables come from a later version of this code."""
    if found.is_newer:
        raise DatabaseError(
            f"database {shown(url)} is at revision {found.revision!r}, newer than this version's "
            f"{found.head!r}; install the version of metafleet that upgraded it"
        )


def alembic_config(connection: Connection | None = None) -> "Config":
    """Point Alembic at the migrations inside this package."""
    from alembic.config import Config  # noqa: PLC0415 - as in _upgrade_locked

    config = Config()
    config.set_main_option("script_location", "metafleet.db:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade_locked(connection: Connection, url: URL) -> SchemaStatus:
    # BEGIN IMMEDIATE already locks SQLite; both databases roll back a failed migration
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    found = read_status(connection)
    refuse_newer(found, url)
    if found.is_current:
        return found
    from alembic import command  # noqa: PLC0415 - slow to import; tables are nearly always current

    command.upgrade(alembic_config(connection), "head")
    if connection.dialect.name == "sqlite":
        _refuse_broken_references(connection, url)
    return read_status(connection)


def _refuse_broken_references(connection: Connection, url: URL) -> None:
    broken = connection.execute(text("PRAGMA foreign_key_check")).first()
    if broken is not None:
        raise DatabaseError(
            f"database {shown(url)}: a row of {broken[0]!r} refers to nothing after the upgrade; "
            "nothing was changed, please report it"
        )


def _make_folder(url: URL) -> None:
    folder = sqlite_path(url).parent
    try:
        with private_files():  # the files of the log get the mode of the database
            folder.mkdir(parents=True, exist_ok=True)
            if not sqlite_path(url).exists():
                with suppress(OSError):  # if it fails, SQLite reports the reason
                    sqlite_path(url).touch()
    except OSError as error:
        raise DatabaseError(
            f"database {shown(url)}: the folder {folder} cannot be made ({error.strerror}); "
            "choose another in METAFLEET_DATABASE_URL or METAFLEET_HOME"
        ) from error


def _status_of(revision: str | None, *, has_tables: bool) -> SchemaStatus:
    head = REVISIONS[-1]
    return SchemaStatus(
        revision=revision,
        head=head,
        is_current=revision == head,
        is_newer=revision is not None and revision not in REVISIONS,
        has_tables=has_tables,
    )
