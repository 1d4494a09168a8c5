"""The queue of sweeps: assigns their control to servers."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update

from metafleet.db.clock import database_now
from metafleet.db.records import SERVERS, SWEEPS, RunStatus, SweepRecord, utc_now
from metafleet.db.repositories.servers import ALIVE_WITHIN_S
from metafleet.db.repositories.sweeps import SweepRepository

MAX_DEATHS: Final = 5
"""How often a sweep is retried after its process died without an error and without a new trial."""


class SweepQueue:
    """Detached sweeps, oldest first. The caller owns the transaction.

    This class assigns sweeps by the same rules as ``RunQueue`` assigns runs: the sweep's row names
    the server (``owner``) and the ``epoch`` under which the server took the sweep, and a server
    that sends no heartbeats loses its sweeps.
    """

    def __init__(self, session: Connection) -> None:
        self._session = session

    def is_waiting(self, *, may_take_over: bool) -> bool:
        """Return whether a sweep can be taken. This only reads, so waiting servers lock nothing."""
        query = select(SWEEPS.c.id).where(self._takeable(may_take_over)).limit(1)
        return self._session.scalar(query) is not None

    def take(self, server: str, *, may_take_over: bool) -> SweepRecord | None:
        """Assign the next sweep to ``server`` under a new epoch. Return None if there is no sweep.

        If the sweep's processes died too often, the returned sweep has the status ``failed``.

        Args:
            server: name of a server that sends heartbeats.
            may_take_over: whether to take sweeps of dead servers too, see ``RunQueue.take``.
        """
        query = select(SWEEPS.c.id).where(self._takeable(may_take_over)).order_by(SWEEPS.c.id)
        sweep_id = self._session.scalar(query.limit(1).with_for_update(skip_locked=True))
        if sweep_id is None:
            return None
        before = SweepRepository(self._session).get(sweep_id)
        self._update(SWEEPS.c.id == sweep_id, epoch=SWEEPS.c.epoch + 1)
        if before.status is RunStatus.RUNNING and not self._count_death(
            before, f"its server {before.owner} died"
        ):
            return SweepRepository(self._session).get(sweep_id)
        self._update(
            SWEEPS.c.id == sweep_id,
            status=RunStatus.RUNNING,
            owner=server,
            finished_at=None,
            error=None,
        )
        return SweepRepository(self._session).get(sweep_id)

    def give_back(self, sweep_id: int, *, owner: str, epoch: int, error: str | None = None) -> bool:
        """Put a sweep back into the queue.

        Return False if ``owner`` no longer has the sweep under ``epoch``: another server, or the
        same server under a later epoch, may have taken it since.
        """
        held = self._held(sweep_id, owner, epoch)
        return self._update(held, status=RunStatus.QUEUED, owner=None, error=error)

    def give_others_back(self, *, owner: str, at_work: Collection[int] = ()) -> None:
        """Put the sweeps that ``owner`` has but does not control back into the queue."""
        is_its = and_(SWEEPS.c.owner == owner, SWEEPS.c.status == RunStatus.RUNNING)
        is_idle = and_(is_its, SWEEPS.c.detached, SWEEPS.c.id.not_in(at_work))
        self._update(is_idle, status=RunStatus.QUEUED, owner=None)

    def fail(self, sweep_id: int, *, owner: str, epoch: int, error: str) -> bool:
        """Mark a sweep as failed. Return False if ``owner`` no longer has it under ``epoch``."""
        end = {"status": RunStatus.FAILED, "owner": None, "finished_at": utc_now()}
        return self._update(self._held(sweep_id, owner, epoch), error=error, **end)

    def note_death(self, sweep_id: int, *, owner: str, epoch: int, reason: str) -> SweepRecord:
        """Requeue a sweep whose process died without reporting an error; return the sweep.

        After too many deaths, mark the sweep as failed instead. If ``owner`` no longer has the
        sweep under ``epoch``, nothing changes.
        """
        held = self._held(sweep_id, owner, epoch)
        query = select(SWEEPS.c.id).where(held).with_for_update()
        sweeps = SweepRepository(self._session)
        if self._session.scalar(query) is not None and self._count_death(
            sweeps.get(sweep_id), reason
        ):
            self.give_back(sweep_id, owner=owner, epoch=epoch, error=reason)
        return sweeps.get(sweep_id)

    def _count_death(self, sweep: SweepRecord, reason: str) -> bool:
        """Count a death. If there were too many, mark the sweep as failed and return False."""
        deaths = sweep.deaths + 1
        self._update(SWEEPS.c.id == sweep.id, deaths=deaths)
        if deaths <= MAX_DEATHS:
            return True
        SweepRepository(self._session).mark_status(
            sweep.id,
            RunStatus.FAILED,
            error=f"its process died {deaths} times without adding a trial, the last time: "
            f"{reason}; fix the cause, then repeat the command that began the sweep",
        )
        return False

    def _takeable(self, may_take_over: bool) -> ColumnElement[bool]:
        queued = SWEEPS.c.status == RunStatus.QUEUED
        if not may_take_over:
            return queued
        since = database_now(self._session) - timedelta(seconds=ALIVE_WITHIN_S)
        is_alive = exists().where(SERVERS.c.name == SWEEPS.c.owner, SERVERS.c.seen_at >= since)
        running = SWEEPS.c.status == RunStatus.RUNNING
        return or_(queued, and_(running, SWEEPS.c.detached, ~is_alive))

    def _held(self, sweep_id: int, owner: str, epoch: int) -> ColumnElement[bool]:
        running = SWEEPS.c.status == RunStatus.RUNNING
        is_its = and_(SWEEPS.c.owner == owner, SWEEPS.c.epoch == epoch)
        return and_(SWEEPS.c.id == sweep_id, is_its, running)

    def _update(self, condition: ColumnElement[bool], **values: Any) -> bool:
        statement = update(SWEEPS).where(condition).values(values).returning(SWEEPS.c.id)
        return bool(self._session.execute(statement).all())
