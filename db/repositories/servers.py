"""Servers: which processes take runs from the queue, and which of them are alive."""

from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from metafleet.db.clock import database_now
from metafleet.db.models import Server
from metafleet.db.records import ServerRecord
from metafleet.db.upsert import upsert

BEAT_EVERY_S: Final = 2.0
ALIVE_WITHIN_S: Final = 6.0
"""A server that was not heard of for so long is dead, and its runs are anybody's."""

_FORGET_AFTER = timedelta(hours=1)
_TABLE = Server.metadata.tables["servers"]


class ServerRepository:
    """Servers. Flushes only: the caller owns the transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def beat(self, name: str, *, host: str, pid: int, max_runs: int) -> None:
        """Give a sign of life, the first one too; and forget those long dead."""
        now = database_now(self._session)
        row = {"name": name, "host": host, "pid": pid, "max_runs": max_runs}
        upsert(
            self._session,
            _TABLE,
            [{**row, "started_at": now, "seen_at": now}],
            keep=["started_at"],
        )
        self._session.execute(delete(_TABLE).where(_TABLE.c.seen_at < now - _FORGET_AFTER))

    def remove(self, name: str) -> None:
        """Say good-bye, so that nobody waits for this server's death."""
        self._session.execute(delete(_TABLE).where(_TABLE.c.name == name))

    def list_alive(self) -> tuple[ServerRecord, ...]:
        """Return the servers heard of within the last seconds, oldest first."""
        since = database_now(self._session) - timedelta(seconds=ALIVE_WITHIN_S)
        query = select(_TABLE).where(_TABLE.c.seen_at >= since).order_by(_TABLE.c.started_at)
        return tuple(ServerRecord(**row._mapping) for row in self._session.execute(query))

    def is_alive(self, name: str) -> bool:
        """Claim that the server of this name is alive."""
        return any(server.name == name for server in self.list_alive())
