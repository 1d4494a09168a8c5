"""The database's clock, which processes on several hosts share."""

from datetime import UTC, datetime

from sqlalchemy import Connection, text

from metafleet.db.records import utc_now


def database_now(session: Connection) -> datetime:
    """Return the database's time in UTC. For SQLite, which has no clock, use the host's."""
    if session.dialect.name == "postgresql":
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now.astimezone(UTC)
    return utc_now()
