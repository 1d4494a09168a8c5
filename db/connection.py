"""Makes engines from URLs, with strict settings for SQLite and time limits for PostgreSQL."""

import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from metafleet.errors import DatabaseError
from metafleet.passwords import redact_url

EXPECTED_URL = "expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST:5432/NAME"
READ_ONLY = "metafleet_read_only"
BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 5
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
# the server disconnects a frozen lock owner before the waiting processes give up
_POSTGRES_LIMITS = "SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '45s'"


def parse_url(url: str) -> URL:
    """Parse a database URL and choose its driver.

    Raises:
        DatabaseError: the text is not a URL, or names a database that we do not support.
    """
    shown = redact_url(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError(f"database URL {shown!r} cannot be read; {EXPECTED_URL}") from error
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise DatabaseError(
            f"database URL {shown!r} names {parsed.drivername!r}, which is not supported; "
            f"{EXPECTED_URL}"
        )
    parsed = parsed.set(drivername=driver)
    if is_sqlite(parsed) and (not parsed.database or ":memory:" in parsed.database):
        raise DatabaseError(
            f"database URL {shown!r} names no file, and a database in memory is gone with its "
            "connection; expected sqlite:///PATH"
        )
    return parsed


def is_sqlite(url: URL) -> bool:
    """Return whether the URL names an SQLite file."""
    return url.get_backend_name() == "sqlite"


def sqlite_path(url: URL) -> Path:
    """Return the file that an SQLite URL names."""
    return Path(url.database or "").absolute()


def make_engine(url: URL, *, enforce_foreign_keys: bool = True) -> Engine:
    """Make an engine. It connects on first use.

    Args:
        url: a URL that ``parse_url`` returned.
        enforce_foreign_keys: False only while a migration rebuilds SQLite tables.

    Raises:
        DatabaseError: the driver is not installed, or an option of the URL is unknown.
    """
    try:
        if is_sqlite(url):
            return _sqlite_engine(url, enforce_foreign_keys)
        return _postgres_engine(url)
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"the driver {error.name!r} for {url.get_backend_name()} is not installed; "
            "run pip install 'metafleet[postgres]'"
        ) from error
    except (ArgumentError, TypeError, ValueError) as error:
        shown = redact_url(url.render_as_string(hide_password=True))
        raise DatabaseError(f"database URL {shown!r}: {error}; {EXPECTED_URL}") from error


def reader_of(engine: Engine) -> Engine:
    """Return the same engine with read-only transactions, which do not wait for writers."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{READ_ONLY: True})
    return engine.execution_options(postgresql_readonly=True)  # the server then refuses writes


def _sqlite_engine(url: URL, enforce_foreign_keys: bool) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def make_strict(connection: Any, record: Any) -> None:
        # isolation_level=None stops the driver from guessing where transactions begin: it would not
        # begin one before SAVEPOINT, and a released savepoint would survive a later rollback
        cursor = connection.cursor()
        _use_write_ahead_log(cursor)
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA foreign_keys = {'ON' if enforce_foreign_keys else 'OFF'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a transaction that reads first and writes later fails if another process wrote in
        # between; IMMEDIATE waits for its turn instead
        read_only = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _use_write_ahead_log(cursor: Any) -> None:
    """Switch to WAL. Retry, because the switch ignores the busy timeout of concurrent openers."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgres_engine(url: URL) -> Engine:
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "application_name": "metafleet",
        "client_encoding": "utf8",  # a server with another encoding would return bytes
    }
    arguments = {name: value for name, value in limits.items() if name not in url.query}
    engine = create_engine(
        url, connect_args=arguments, pool_pre_ping=True, pool_size=2, max_overflow=4
    )

    @event.listens_for(engine, "connect")
    def set_limits(connection: Any, record: Any) -> None:
        was_autocommit = connection.autocommit
        connection.autocommit = True
        connection.execute(_POSTGRES_LIMITS)
        connection.autocommit = was_autocommit

    return engine
