"""The queue of runs, over SQLite and over PostgreSQL: who gets a run, and for how long."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from metafleet.db.clock import database_now
from metafleet.db.engine import Database
from metafleet.db.records import SERVERS, CheckpointRecord, RunRecord, RunStatus, TakenRun
from metafleet.db.repositories import (
    CheckpointRepository,
    RunQueue,
    RunRepository,
    ServerRepository,
)
from metafleet.db.repositories.run_queue import MAX_DEATHS
from metafleet.errors import ConfigError, FencedError
from tests.databases import add_run, new_run


def queue_run(database: Database, *, priority: int = 0) -> RunRecord:
    with database.session() as session:
        new = replace(new_run(), detached=True, priority=priority)
        return RunRepository(session).add(new)


def beat(database: Database, *names: str) -> None:
    with database.session() as session:
        for name in names:
            ServerRepository(session).beat(name, host="h", pid=1, max_runs=2)


def fall_silent(database: Database, name: str) -> None:
    with database.session() as session:
        long_ago = database_now(session) - timedelta(seconds=30)
        session.execute(update(SERVERS).where(SERVERS.c.name == name).values(seen_at=long_ago))


def take(database: Database, server: str, *, may_take_over: bool = True) -> TakenRun | None:
    with database.session() as session:
        return RunQueue(session).take(server, may_take_over=may_take_over)


def read(database: Database, run: RunRecord) -> RunRecord:
    with database.session(read_only=True) as session:
        return RunRepository(session).get(run.id)


def test_runs_are_taken_by_priority_and_then_by_age(database: Database) -> None:
    beat(database, "a")
    add_run(database)  # attached: no server may take it
    runs = [queue_run(database, priority=p) for p in (0, 5, -1, 5, 0)]

    taken = [take(database, "a") for _ in runs]

    order = [runs.index(next(r for r in runs if t and r.id == t.run.id)) for t in taken]
    assert order == [1, 3, 0, 4, 2]
    assert take(database, "a") is None


def test_a_run_is_taken_once_however_many_servers_want_it(database: Database) -> None:
    names = [f"server {i}" for i in range(6)]
    beat(database, *names)
    wanted = {queue_run(database).id for _ in range(12)}
    found: list[int] = []

    def take_all(name: str) -> None:
        while (taken := take(database, name)) is not None:
            found.append(taken.run.id)

    threads = [threading.Thread(target=take_all, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # a locked row is skipped, so a server may leave early; whatever is left is still to be had
    take_all(names[0])
    assert sorted(found) == sorted(wanted)


def test_a_taken_run_is_running_owned_and_at_a_new_epoch(database: Database) -> None:
    beat(database, "a")
    run = queue_run(database)
    assert (run.status, run.detached) == (RunStatus.QUEUED, True)

    taken = take(database, "a")

    assert taken is not None and taken.predecessor is None
    now = read(database, run)
    assert now == taken.run
    assert (now.status, now.owner, now.epoch) == (RunStatus.RUNNING, "a", run.epoch + 1)
    assert now.started_at is not None


def test_only_a_dead_servers_run_is_taken_over_and_its_rows_are_fenced_out(
    database: Database,
) -> None:
    beat(database, "a", "b")
    queue_run(database)
    first = take(database, "a")
    assert first is not None
    assert take(database, "b") is None

    fall_silent(database, "a")
    assert take(database, "b", may_take_over=False) is None
    second = take(database, "b")

    assert second is not None and second.predecessor == "a"
    assert (second.run.owner, second.run.epoch) == ("b", first.run.epoch + 1)
    with pytest.raises(FencedError), database.session() as session:
        RunRepository(session).hold(first.run.id, epoch=first.run.epoch)
    with database.session() as session:
        assert not RunQueue(session).give_back(first.run.id, owner="a")
    assert read(database, first.run).owner == "b"


def test_a_server_that_said_good_bye_is_dead_at_once(database: Database) -> None:
    beat(database, "a", "b")
    queue_run(database)
    take(database, "a")

    with database.session() as session:
        ServerRepository(session).remove("a")
        assert [s.name for s in ServerRepository(session).list_alive()] == ["b"]

    assert take(database, "b") is not None


def test_a_run_whose_process_dies_again_and_again_fails_with_the_reason(
    database: Database,
) -> None:
    beat(database, "a")
    run = queue_run(database)
    for _ in range(MAX_DEATHS):
        assert take(database, "a") is not None
        with database.session() as session:
            after = RunQueue(session).note_death(run.id, owner="a", reason="SIGKILL")
        assert after.status is RunStatus.QUEUED

    take(database, "a")
    with database.session() as session:
        RunQueue(session).note_death(run.id, owner="a", reason="SIGSEGV")

    ended = read(database, run)
    assert ended.status is RunStatus.FAILED
    assert "died 6 times" in str(ended.error) and "SIGSEGV" in str(ended.error)
    assert take(database, "a") is None


def test_the_death_of_servers_counts_too(database: Database) -> None:
    beat(database, "a")
    run = queue_run(database)
    take(database, "a")
    for _ in range(MAX_DEATHS + 1):
        fall_silent(database, "a")
        taken = take(database, "a")
        assert taken is not None

    assert taken.run.status is RunStatus.FAILED
    assert read(database, run).owner is None


def test_progress_between_deaths_resets_the_count(database: Database) -> None:
    beat(database, "a")
    run = queue_run(database)
    for step in range(2 * MAX_DEATHS):
        take(database, "a")
        with database.session() as session:
            record = CheckpointRecord(step=step + 1, path="p", sha256="0" * 64, size_bytes=1)
            CheckpointRepository(session).upsert_many(run.id, [record])
        with database.session() as session:
            after = RunQueue(session).note_death(run.id, owner="a", reason="SIGKILL")
        assert (after.status, after.deaths) == (RunStatus.QUEUED, 1)


@pytest.mark.parametrize("begin", [add_run, queue_run])
def test_a_cancelled_run_is_fenced_and_has_no_owner(database: Database, begin: object) -> None:
    beat(database, "a")
    run: RunRecord = begin(database)  # type: ignore[operator]
    take(database, "a")
    epoch = read(database, run).epoch

    for _ in range(2):
        with database.session() as session:
            RunRepository(session).cancel(run.id)

    after = read(database, run)
    assert (after.status, after.owner, after.epoch) == (RunStatus.CANCELLED, None, epoch + 1)
    fall_silent(database, "a")
    assert take(database, "a") is None


def test_an_ended_run_cannot_be_cancelled(database: Database) -> None:
    run = add_run(database)
    with database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.FINISHED)

    with pytest.raises(ConfigError, match="is finished already"), database.session() as session:
        RunRepository(session).cancel(run.id)


def test_a_run_that_somebody_attaches_is_out_of_servers_reach(database: Database) -> None:
    run = queue_run(database)
    with database.session() as session:
        RunRepository(session).claim(run.id, seen_epoch=run.epoch, attach_to="me")
        RunRepository(session).mark_status(run.id, RunStatus.RUNNING)

    after = read(database, run)
    assert (after.owner, after.detached) == ("me", False)
    beat(database, "a")
    assert take(database, "a") is None
