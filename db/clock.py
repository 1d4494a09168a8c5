"""The clock that processes on several hosts have in common: the database's."""

from datetime import UTC, datetime

from sqlalchemy import Connection, text

from metafleet.db.records import utc_now


def database_now(session: Connection) -> datetime:
    """Read the database's clock, UTC; an SQLite file has none but its host's."""
    if session.dialect.name == "postgresql":
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now.astimezone(UTC)
    return utc_now()
