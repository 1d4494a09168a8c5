"""Sweeps and their queue, over SQLite and over PostgreSQL."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from metafleet.db.clock import database_now
from metafleet.db.engine import Database
from metafleet.db.records import SERVERS, RunStatus, SweepRecord, TrialRecord
from metafleet.db.repositories import (
    RunRepository,
    ServerRepository,
    SweepQueue,
    SweepRepository,
)
from metafleet.db.repositories.run_deletion import delete_run
from metafleet.db.repositories.sweep_queue import MAX_DEATHS
from metafleet.errors import ConfigError, FencedError
from tests.databases import add_run

PLAN = {"over": ["outer.lr=1,2"], "sampler": "grid", "seed": 0, "first": [], "prune": None}


def add(database: Database, name: str = "s", *, queued: bool = True) -> SweepRecord:
    with database.session() as session:
        sweeps = SweepRepository(session)
        found = sweeps.add(name, config={"seed": 1}, plan=PLAN)
        sweeps.request(found.id, n_trials=4, parallel=2)
        if queued:
            sweeps.requeue(found.id, seen_epoch=found.epoch)
        return sweeps.get(name)


def read(database: Database, name: str = "s") -> SweepRecord:
    with database.session(read_only=True) as session:
        return SweepRepository(session).get(name)


def take(database: Database, server: str, *, may_take_over: bool = True) -> SweepRecord | None:
    with database.session() as session:
        ServerRepository(session).beat(server, host="h", pid=1, max_runs=1)
        return SweepQueue(session).take(server, may_take_over=may_take_over)


def fall_silent(database: Database, name: str) -> None:
    with database.session() as session:
        long_ago = database_now(session) - timedelta(seconds=30)
        session.execute(update(SERVERS).where(SERVERS.c.name == name).values(seen_at=long_ago))


def test_a_sweep_is_kept_with_its_plan_and_trials(database: Database) -> None:
    run = add_run(database)
    sweep = add(database)
    with database.session() as session:
        sweeps = SweepRepository(session)
        values = {"outer.lr": 0.5, "model.hidden": [8]}
        sweeps.add_trial(TrialRecord(sweep_id=sweep.id, number=1, assigned=values, refused="no"))
        sweeps.add_trial(TrialRecord(sweep_id=sweep.id, number=0, assigned={}, run_id=run.id))
        sweeps.note_pruned(run.id, step=3)
        sweeps.note_pruned(run.id, step=4)
    with database.session(read_only=True) as session:
        sweeps = SweepRepository(session)
        assert sweeps.get("s") == sweeps.get(sweep.id) == sweeps.list()[0]
        assert (sweep.config, sweep.plan, sweep.n_trials) == ({"seed": 1}, PLAN, 4)
        first, second = sweeps.trials(sweep.id)
        assert (first.run_id, first.pruned_step, second.run_id) == (run.id, 3, None)
        assert (second.assigned, second.refused) == (values, "no")
        assert sweeps.find_trial(run.id) == first and sweeps.find_trial(run.id + 1) is None
        assert [one.id for one in RunRepository(session).list_of_sweep(sweep.id)] == [run.id]
        with pytest.raises(ConfigError, match="no sweep 't'; the newest are: s"):
            sweeps.get("t")


def test_a_deleted_run_is_no_trial(database: Database) -> None:
    run, sweep = add_run(database), add(database)
    with database.session() as session:
        SweepRepository(session).add_trial(
            TrialRecord(sweep_id=sweep.id, number=0, assigned={}, run_id=run.id)
        )
        RunRepository(session).mark_status(run.id, RunStatus.FINISHED)
        delete_run(session, run.uid)
        assert SweepRepository(session).trials(sweep.id) == ()


def test_only_one_process_adds_trials(database: Database) -> None:
    sweep = add(database, queued=False)
    with database.session() as session:
        claimed = SweepRepository(session).claim(sweep.id, seen_epoch=sweep.epoch, owner="a")
    assert (claimed.status, claimed.owner, claimed.detached) == (RunStatus.RUNNING, "a", False)
    with pytest.raises(FencedError), database.session() as session:
        SweepRepository(session).claim(sweep.id, seen_epoch=sweep.epoch, owner="b")
    with pytest.raises(FencedError), database.session() as session:
        SweepRepository(session).hold(sweep.id, epoch=sweep.epoch)
    with database.session() as session:
        SweepRepository(session).hold(sweep.id, epoch=claimed.epoch)
        before = SweepRepository(session).cancel(sweep.id)
    assert before == claimed and take(database, "server") is None
    with pytest.raises(FencedError), database.session() as session:
        SweepRepository(session).hold(sweep.id, epoch=claimed.epoch)
    with pytest.raises(ConfigError, match="just now"), database.session() as session:
        SweepRepository(session).add("s", config={}, plan={})


def test_a_sweep_of_a_dead_server_is_taken_over_and_given_back(database: Database) -> None:
    sweep = add(database)
    taken = take(database, "a")
    assert taken is not None and (taken.owner, taken.epoch) == ("a", sweep.epoch + 1)
    assert take(database, "b") is None
    fall_silent(database, "a")
    assert take(database, "b", may_take_over=False) is None
    heir = take(database, "b")
    assert heir is not None and (heir.owner, heir.deaths) == ("b", 1)
    with database.session() as session:
        queue = SweepQueue(session)
        assert not queue.give_back(sweep.id, owner="a", epoch=taken.epoch)
        assert not queue.fail(sweep.id, owner="a", epoch=taken.epoch, error="x")
        queue.give_others_back(owner="b", at_work=[sweep.id])
        assert SweepRepository(session).get("s").status is RunStatus.RUNNING
        queue.give_others_back(owner="b")
    assert (read(database).status, read(database).owner) == (RunStatus.QUEUED, None)


def test_a_late_process_cannot_end_a_sweep_that_its_server_has_taken_again(
    database: Database,
) -> None:
    sweep = add(database)
    late = take(database, "a")
    assert late is not None
    with database.session() as session:
        assert SweepQueue(session).give_back(sweep.id, owner="a", epoch=late.epoch)
    again = take(database, "a")
    assert again is not None and again.epoch == late.epoch + 1
    with database.session() as session:
        queue = SweepQueue(session)
        assert not queue.give_back(sweep.id, owner="a", epoch=late.epoch)
        assert not queue.fail(sweep.id, owner="a", epoch=late.epoch, error="x")
        assert queue.note_death(sweep.id, owner="a", epoch=late.epoch, reason="x") == again
        assert queue.fail(sweep.id, owner="a", epoch=again.epoch, error="x")


def test_a_sweep_whose_process_keeps_dying_fails(database: Database) -> None:
    sweep = add(database)
    for death in range(1, MAX_DEATHS + 2):
        taken = take(database, "a")
        assert taken is not None
        with database.session() as session:
            after = SweepQueue(session).note_death(
                sweep.id, owner="a", epoch=taken.epoch, reason="SIGKILL"
            )
        assert after.deaths == death
    assert after.status is RunStatus.FAILED and "the last time: SIGKILL" in str(after.error)
    assert take(database, "a") is None
