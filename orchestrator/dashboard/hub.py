"""Tells browsers which topics have changed, by server-sent events.

One thread reads a version of each topic from the database once a second, only while someone
listens. The events contain names of topics, no data: the browser then gets its page again.
"""

import asyncio
import json
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from sqlalchemy import Connection, func, select

from metafleet.db.engine import Database
from metafleet.db.records import ATTEMPTS, RUNS, RunStatus
from metafleet.errors import MetafleetError
from metafleet.orchestrator.dashboard.fleet import FleetWatch

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
_ALIVE_EVERY_S: Final = 15.0
"""A comment is sent this often, so that proxies keep the connection open."""
_RETRY_MS: Final = 1000
_MOST_LISTENERS: Final = 200

Versions = Mapping[str, str]


def versions_of_runs(session: Connection) -> Versions:
    """Return the versions of ``runs`` (anything about any run) and of each open run."""
    open_ = (RunStatus.CREATED, RunStatus.QUEUED, RunStatus.RUNNING)
    columns = (RUNS.c.id, RUNS.c.status, RUNS.c.epoch, RUNS.c.steps_done)
    rows = session.execute(select(*columns).where(RUNS.c.status.in_(open_))).all()
    ids = [row.id for row in rows]
    of_attempts = select(ATTEMPTS.c.run_id, func.count()).where(ATTEMPTS.c.run_id.in_(ids))
    counted = session.execute(of_attempts.group_by(ATTEMPTS.c.run_id))
    attempts = {run_id: count for run_id, count in counted}
    ended = session.execute(
        select(func.count(), func.max(RUNS.c.id), func.max(RUNS.c.finished_at))
    ).one()
    found = {f"run-{row.id}": repr((tuple(row), attempts.get(row.id))) for row in rows}
    return found | {"runs": repr((sorted(found.items()), tuple(ended)))}


WATCHED: list[Callable[[Connection], Versions]] = [versions_of_runs]
"""Each returns topic -> version. A topic that is new, gone or of another version has changed."""


class Hub:
    """Passes changes on to the browsers that listen. ``start`` and ``stream`` belong to one loop.

    Args:
        database: where versions are read.
        fleet: its state is the version of the topic ``fleet``.
    """

    def __init__(self, database: Database, fleet: FleetWatch) -> None:
        self._database, self._fleet = database, fleet
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = threading.Lock()  # held while versions are read
        self._versions: dict[str, str] | None = None
        self._id = secrets.token_hex(8)

    @property
    def n_listeners(self) -> int:
        """The number of open streams."""
        return len(self._listeners)

    def start(self) -> None:
        """Begin to look for changes."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def close(self) -> None:
        """End all streams, so that they do not hold up the server's end."""
        self._closing.set()
        for queue in self._listeners:
            queue.put_nowait(None)

    async def stream(self) -> AsyncIterator[str]:
        """Yield server-sent events until the hub closes or the browser goes."""
        if len(self._listeners) >= _MOST_LISTENERS or self._closing.is_set():
            return
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            # from here on each change is told; the browser gets its page again after "hello"
            await asyncio.to_thread(self._begin)
            yield f"retry: {_RETRY_MS}\nevent: hello\ndata: {self._id}\n\n"
            while True:
                try:
                    async with asyncio.timeout(_ALIVE_EVERY_S):
                        event = await queue.get()
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._listeners.discard(queue)

    def _begin(self) -> None:
        with self._guard:
            if self._versions is None:
                self._look_or_warn()

    def _run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            with self._guard:
                if not self._listeners:
                    self._versions = None
                    continue
                changed = self._look_or_warn()
            if changed and self._loop is not None and not self._closing.is_set():
                event = f"event: changed\ndata: {json.dumps(sorted(changed))}\n\n"
                self._loop.call_soon_threadsafe(self._tell, event)

    def _look_or_warn(self) -> set[str]:
        try:
            return self._look()
        except MetafleetError as error:
            log.warning("changes cannot be read (%s); trying again", error)
            return set()

    def _look(self) -> set[str]:
        """Return the topics that changed since the last look; none at the first look."""
        state = self._fleet.state
        found = {"fleet": repr((state.n_alive, state.problem))}
        with self._database.session(read_only=True) as session:
            for versions in WATCHED:
                found |= versions(session)
        before, self._versions = self._versions, found
        if before is None:
            return set()
        names = before.keys() | found.keys()
        return {name for name in names if before.get(name) != found.get(name)}

    def _tell(self, event: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)
