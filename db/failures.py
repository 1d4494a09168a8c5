"""Turns errors of SQLAlchemy and the drivers into one actionable line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from metafleet.errors import DatabaseError, DatabaseUnavailableError
from metafleet.passwords import redact_url

# (pattern of the driver's message, remedy, whether it may be temporary); the first match counts
_REMEDIES = (
    (r"file is not a database|malformed", "point the URL at a metafleet database", False),
    (r"no such (table|column)|has no column", "run `metafleet db upgrade`", False),
    (r"(table|relation|column) .*does not exist", "run `metafleet db upgrade`", False),
    (r"already exists", "use an empty database; this one holds others' tables", False),
    (r"unable to open database file", "check that the folder exists and you may write to it", True),
    (r"readonly database|read-only", "check the permissions of the file and its folder", True),
    (r"is full|No space left", "make room on the disk", True),
    (r"disk I/O error", "check the disk", True),
    (r"database is locked|lock timeout", "wait for the other process, or stop it", True),
    (r"password authentication failed|no password supplied", "check user and password", True),
    (r"no pg_hba.conf entry", "ask for access in the server's pg_hba.conf", True),
    (r"role .* does not exist", "check the user's name", True),
    (r"database .* does not exist", "make it with createdb, or check the name", True),
    (r"permission denied", "grant the user its rights on the schema", False),
    (r"resolve host|translate host name", "check the host's name", True),
    (r"refused|timeout|timed out|unreachable", "check that the server runs and is reachable", True),
    (r"too many (clients|connections)", "raise max_connections or stop other clients", True),
)
_TRANSIENT = (OperationalError, InterfaceError, PoolTimeoutError)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Convert every SQLAlchemy error in the block to a one-line error that names the database.

    Raises:
        DatabaseUnavailableError: the error may be temporary: server down, locked, disk full ...
        DatabaseError: the error is permanent.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise as_database_error(error, url) from error


def as_database_error(error: SQLAlchemyError, url: URL) -> DatabaseError:
    """Return the one-line error. It never contains a password."""
    reason = _reason(error)
    remedy, passes = "", isinstance(error, _TRANSIENT) or _lost_connection(error)
    for pattern, advice, may_pass in _REMEDIES:
        if re.search(pattern, reason, re.IGNORECASE):
            remedy, passes = f"; {advice}", passes and may_pass
            break
    kind = DatabaseUnavailableError if passes else DatabaseError
    return kind(f"database {shown(url)}: {reason}{remedy}")


def shown(url: URL) -> str:
    """Render a URL for messages, without its password."""
    plain = url.set(drivername=url.get_backend_name())
    return redact_url(plain.render_as_string(hide_password=True))


def _lost_connection(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _reason(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    # libpq reports each address that it tried on a separate line
    fatal = [line for line in lines if "FATAL:" in line or "failed:" in line]
    line = (fatal or lines or [type(original).__name__])[0]
    return re.sub(r"^.*?(?:FATAL|ERROR):\s+|^connection failed: ", "", line)
