from dataclasses import replace

from metafleet.db.engine import Database
from metafleet.db.records import AttemptRecord, RunRecord, RunStatus
from metafleet.db.repositories import OuterStepRepository, RunRepository
from metafleet.db.repositories.attempts import AttemptRepository
from metafleet.db.repositories.servers import ServerRepository
from metafleet.orchestrator.records.states import LiveState, State, live_states
from tests.databases import add_run, make_step


def running(database: Database, *, attempts: int = 4) -> RunRecord:
    """Add a running run with two committed steps."""
    run = add_run(database)
    with database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.RUNNING)
        RunRepository(session).set_progress(run.id, steps_done=2)
        steps = [replace(make_step(step), attempts=attempts) for step in (1, 2)]
        OuterStepRepository(session).upsert_many(run.id, steps)
    return run


def lose(database: Database, run: RunRecord, step: int, *, outcome: str = "lost") -> None:
    with database.session() as session:
        row = AttemptRecord(
            stream="train", step=step, epoch=0, shard=3, attempt=1, outcome=outcome, detail="gone"
        )
        AttemptRepository(session).upsert_many(run.id, [row])


def state_of(database: Database, run: RunRecord, n_workers: int | None = 2) -> LiveState:
    with database.session(read_only=True) as session:
        record = RunRepository(session).get(run.id)
        return live_states(session, [record], n_workers=n_workers)[run.id]


def test_a_run_is_retrying_while_its_unfinished_step_has_lost_attempts(database: Database) -> None:
    run = running(database)
    lose(database, run, 2)
    assert state_of(database, run) == LiveState(State.RUNNING)
    lose(database, run, 3, outcome="late")
    assert state_of(database, run) == LiveState(State.RUNNING)
    lose(database, run, 3)
    assert state_of(database, run) == LiveState(State.RETRYING, "step 3, shard 3: lost (gone)")


def test_a_run_on_a_fleet_is_paused_without_workers(database: Database) -> None:
    run, in_process = running(database), running(database, attempts=0)
    assert state_of(database, run, 0).state is State.PAUSED
    assert "no worker is alive" in state_of(database, run, 0).reason
    assert state_of(database, run, None).state is State.RUNNING
    assert state_of(database, in_process, 0).state is State.RUNNING


def test_a_queued_run_says_that_no_server_takes_it(database: Database) -> None:
    run = add_run(database)
    with database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.QUEUED)
    assert state_of(database, run).state is State.QUEUED
    assert "metafleet serve" in state_of(database, run).reason
    with database.session() as session:
        ServerRepository(session).beat("lab:1/x", host="lab", pid=1, max_runs=1)
    assert state_of(database, run) == LiveState(State.QUEUED)
    with database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.QUEUED, error="its process died")
    assert state_of(database, run) == LiveState(State.RETRYING, "its process died")


def test_a_failed_run_gives_the_reason(database: Database) -> None:
    run = add_run(database)
    with database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.FAILED, error="loss is nan")
    assert state_of(database, run) == LiveState(State.FAILED, "loss is nan")
