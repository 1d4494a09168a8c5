"""The queue of runs: assigns them to servers and handles the death of their processes."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, update

from metafleet.db.clock import database_now
from metafleet.db.records import (
    CHECKPOINTS,
    RUNS,
    SERVERS,
    RunRecord,
    RunStatus,
    TakenRun,
    utc_now,
)
from metafleet.db.repositories.runs import RunRepository
from metafleet.db.repositories.servers import ALIVE_WITHIN_S

MAX_DEATHS: Final = 5
"""How often a run is retried after its process died without an error and without progress."""


class RunQueue:
    """Detached runs, by priority and then by age. The caller owns the transaction.

    Only the database decides which server executes a detached run. The run's row contains the name
    of this server (``owner``) and the ``epoch`` under which it took the run. A server that sends no
    heartbeats loses its runs.
    """

    def __init__(self, session: Connection) -> None:
        self._session = session

    def count_waiting(self) -> int:
        """Count the queued runs."""
        query = select(func.count()).where(RUNS.c.status == RunStatus.QUEUED)
        return int(self._session.scalar(query) or 0)

    def is_waiting(self, *, may_take_over: bool) -> bool:
        """Return whether a run can be taken. This only reads, so waiting servers lock nothing."""
        query = select(RUNS.c.id).where(self._takeable(may_take_over)).limit(1)
        return self._session.scalar(query) is not None

    def take(self, server: str, *, may_take_over: bool) -> TakenRun | None:
        """Assign the next run to ``server`` under a new epoch. Return None if there is no run.

        Two races are prevented. Two servers cannot take the same run, because the row is locked and
        other servers skip locked rows. A former owner that only seemed dead cannot write any more,
        because the same transaction raises the epoch.

        Args:
            server: name of a server that sends heartbeats.
            may_take_over: whether to take runs of dead servers too. If the server could not reach
                the database for a while, ``may_take_over`` must be False. Other servers may have
                had the same problem, so that they only seem dead.
        """
        query = (
            select(RUNS.c.id)
            .where(self._takeable(may_take_over))
            .order_by(RUNS.c.priority.desc(), RUNS.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        run_id = self._session.scalar(query)
        if run_id is None:
            return None
        before = RunRepository(self._session).get(run_id)
        predecessor = before.owner if before.status is RunStatus.RUNNING else None
        if before.status is RunStatus.RUNNING and not self._count_death(
            before, f"its server {predecessor} died"
        ):
            RunRepository(self._session).next_epoch(run_id)
            return TakenRun(run=self._get(run_id), predecessor=predecessor)
        self._update(
            RUNS.c.id == run_id,
            status=RunStatus.RUNNING,
            owner=server,
            epoch=RUNS.c.epoch + 1,
            started_at=func.coalesce(RUNS.c.started_at, utc_now()),
            finished_at=None,
            error=None,
        )
        return TakenRun(run=self._get(run_id), predecessor=predecessor)

    def give_back(self, run_id: int, *, owner: str, error: str | None = None) -> bool:
        """Put a run back into the queue. Return False if ``owner`` no longer has it."""
        return self._update(
            self._held(run_id, owner), status=RunStatus.QUEUED, owner=None, error=error
        )

    def give_all_back(self, *, owner: str) -> None:
        """Put all runs that ``owner`` still has back into the queue."""
        self.give_others_back(owner=owner, at_work=())

    def give_others_back(self, *, owner: str, at_work: Collection[int]) -> None:
        """Requeue runs that ``owner`` has but does not execute: the answer to ``take`` was lost."""
        is_its = and_(RUNS.c.owner == owner, RUNS.c.status == RunStatus.RUNNING)
        is_idle = RUNS.c.id.not_in(at_work)
        self._update(and_(is_its, is_idle), status=RunStatus.QUEUED, owner=None)

    def fail(self, run_id: int, *, owner: str, error: str) -> bool:
        """Mark a run as failed. Return False if ``owner`` no longer has it."""
        return self._update(
            self._held(run_id, owner),
            status=RunStatus.FAILED,
            owner=None,
            error=error,
            finished_at=utc_now(),
        )

    def note_death(self, run_id: int, *, owner: str, reason: str) -> RunRecord:
        """Requeue a run whose process died without reporting an error.

        After too many deaths, mark the run as failed instead. If ``owner`` no longer has the run,
        nothing changes. Return the run.
        """
        query = select(RUNS.c.id).where(self._held(run_id, owner)).with_for_update()
        if self._session.scalar(query) is not None and self._count_death(self._get(run_id), reason):
            self.give_back(run_id, owner=owner, error=reason)
        return self._get(run_id)

    def _count_death(self, run: RunRecord, reason: str) -> bool:
        """Count a death. If the run died too often, mark it as failed and return False.

        If the run has written a checkpoint since its last death, the count begins again. A long run
        may lose many hosts, so a run is considered broken only if it makes no progress between
        deaths.
        """
        reached = self._session.scalar(
            select(func.max(CHECKPOINTS.c.step)).where(CHECKPOINTS.c.run_id == run.id)
        )
        step = max(int(reached or 0), run.death_step)
        deaths = 1 if step > run.death_step else run.deaths + 1
        self._update(RUNS.c.id == run.id, deaths=deaths, death_step=step)
        if deaths <= MAX_DEATHS:
            return True
        RunRepository(self._session).mark_status(
            run.id,
            RunStatus.FAILED,
            error=f"its process died {deaths} times without getting further than step {step}, "
            f"the last time: {reason}; fix the cause, then `metafleet runs resume {run.id}`",
        )
        return False

    def _takeable(self, may_take_over: bool) -> ColumnElement[bool]:
        queued = RUNS.c.status == RunStatus.QUEUED
        if not may_take_over:
            return queued
        since = database_now(self._session) - timedelta(seconds=ALIVE_WITHIN_S)
        is_alive = exists().where(SERVERS.c.name == RUNS.c.owner, SERVERS.c.seen_at >= since)
        running = RUNS.c.status == RunStatus.RUNNING
        return or_(queued, and_(running, RUNS.c.detached, ~is_alive))

    def _held(self, run_id: int, owner: str) -> ColumnElement[bool]:
        running = RUNS.c.status == RunStatus.RUNNING
        return and_(RUNS.c.id == run_id, RUNS.c.owner == owner, running)

    def _get(self, run_id: int) -> RunRecord:
        return RunRepository(self._session).get(run_id)

    def _update(self, condition: ColumnElement[bool], **values: Any) -> bool:
        statement = update(RUNS).where(condition).values(values).returning(RUNS.c.id)
        return bool(self._session.execute(statement).all())
