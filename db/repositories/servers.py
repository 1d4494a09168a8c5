"""Servers: the processes that take runs from the queue, and which of them are alive."""

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, delete

from metafleet.db.clock import database_now
from metafleet.db.records import SERVERS, ServerRecord
from metafleet.db.rowmap import read, select_fields
from metafleet.db.upsert import upsert

BEAT_EVERY_S: Final = 2.0
ALIVE_WITHIN_S: Final = 6.0
"""A server without a heartbeat for this long is dead, and other servers may take its runs."""

_FORGET_AFTER = timedelta(hours=1)


class ServerRepository:
    """Servers. The caller owns the transaction."""

    def __init__(self, session: Connection) -> None:
        self._session = session

    def beat(self, name: str, *, host: str, pid: int, max_runs: int) -> None:
        """Record a heartbeat, adding the server if it is new, and remove long-dead servers."""
        now = database_now(self._session)
        row = {"name": name, "host": host, "pid": pid, "max_runs": max_runs}
        upsert(
            self._session,
            SERVERS,
            [{**row, "started_at": now, "seen_at": now}],
            keep=["started_at"],
        )
        self._session.execute(delete(SERVERS).where(SERVERS.c.seen_at < now - _FORGET_AFTER))

    def remove(self, name: str) -> None:
        """Remove the server, so that others take its runs at once."""
        self._session.execute(delete(SERVERS).where(SERVERS.c.name == name))

    def list_alive(self) -> tuple[ServerRecord, ...]:
        """Return the servers that are alive, oldest first."""
        since = database_now(self._session) - timedelta(seconds=ALIVE_WITHIN_S)
        alive = select_fields(SERVERS, ServerRecord).where(SERVERS.c.seen_at >= since)
        return read(self._session, ServerRecord, alive.order_by(SERVERS.c.started_at))

    def is_alive(self, name: str) -> bool:
        """Return whether the server of this name is alive."""
        return any(server.name == name for server in self.list_alive())
