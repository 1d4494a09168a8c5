"""Cancelling attached runs, and the state after Ctrl-C."""

import json
import signal
import threading
from pathlib import Path

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.errors import FleetError, RunCancelledError
from metafleet.orchestrator.runs.attached import AttachedRun, report_of
from metafleet.orchestrator.runs.launch import execute_run
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.runs.tenure import Tenure
from tests.fleet import wait_until
from tests.integration.orchestrator.service.servers import command
from tests.runs import Watcher, config, execute, new_run, read_run, undisturbed

LONG = config(outer={"steps": 30}, validation={"every": 10})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"METAFLEET_HOME": str(tmp_path / "home")})


def cancel(settings: Settings, run: RunRecord) -> None:
    with Database.open(settings.database_url) as database, database.session() as session:
        RunRepository(session).cancel(run.id)


class CancelAt(Watcher):
    def __init__(self, settings: Settings, run: RunRecord, step: int) -> None:
        super().__init__()
        self._settings, self._run, self._step = settings, run, step

    def on_step(self, event: object) -> None:
        super().on_step(event)  # type: ignore[arg-type]
        if len(self.steps) == self._step:
            cancel(self._settings, self._run)


def test_a_cancelled_run_stops_stays_cancelled_and_can_be_resumed(settings: Settings) -> None:
    run = new_run(settings, LONG)

    with pytest.raises(RunCancelledError, match=f"run {run.id} was cancelled after step"):
        execute(settings, run, in_process=True, watcher=CancelAt(settings, run, 6))

    stopped = read_run(settings, run)
    assert (stopped.status, stopped.owner) == (RunStatus.CANCELLED, None)
    assert stopped.steps_done < 30
    report = execute(settings, run, in_process=True)
    assert report.checkpoint_sha256 == undisturbed(settings, LONG)
    assert read_run(settings, run).status is RunStatus.FINISHED


def test_a_run_in_this_process_is_stopped_in_the_middle_of_a_shard(settings: Settings) -> None:
    endless = config(
        outer={"steps": 1, "meta_batch_size": 1},
        learner={"inner_steps": 1_000_000, "first_order": True},
        engine={"episodes_per_job": 1},
    )
    run = new_run(settings, endless)
    canceller = threading.Timer(1.0, cancel, (settings, run))
    canceller.start()

    with pytest.raises(RunCancelledError, match=f"run {run.id} was cancelled"):
        execute(settings, run, in_process=True)
    canceller.join()
    assert read_run(settings, run).status is RunStatus.CANCELLED


def test_a_run_cancelled_as_it_ends_did_not_finish(settings: Settings) -> None:
    brief = config(outer={"steps": 3}, test={"baselines": False})
    run = new_run(settings, brief)

    class AtTheEnd(Watcher):
        def on_evaluation(self, event: object) -> None:
            cancel(settings, run)

    with pytest.raises(RunCancelledError):
        execute(settings, run, in_process=True, watcher=AtTheEnd())
    assert read_run(settings, run).status is RunStatus.CANCELLED


def test_a_run_cancelled_before_it_begins_does_not_begin(settings: Settings) -> None:
    run = new_run(settings, LONG)
    with Database.open(settings.database_url) as database:
        with database.session() as session:
            stale = RunRepository(session).get(run.id)
            RunRepository(session).cancel(run.id)
        with pytest.raises(FleetError), database.session() as session:
            RunRepository(session).claim(run.id, seen_epoch=stale.epoch, attach_to="me")
    assert read_run(settings, run).status is RunStatus.CANCELLED


def test_an_attached_view_shows_each_step_and_evaluation_once(settings: Settings) -> None:
    run = new_run(settings, LONG)
    seen = Watcher()
    with Database.open(settings.database_url) as database:
        worker = threading.Thread(target=execute, args=(settings, run), kwargs={"in_process": True})
        worker.start()
        ended = AttachedRun(database, run, seen).follow()
        worker.join()
        report = report_of(database, ended)

    assert [event.step for event in seen.steps] == list(range(1, 31))
    validations = [e.step for e in seen.evaluations if e.split == "meta_val"]
    assert validations == [10, 20, 30]
    assert report.checkpoint_sha256 == undisturbed(settings, LONG)
    assert {e.label for e in report.evaluations} == {"trained", "initialisation"}
    assert any("executed by" in notice or "executed at" in notice for notice in seen.notices)


def test_a_view_of_a_run_that_ended_between_two_looks_says_that_it_was_executed(
    settings: Settings,
) -> None:
    run = new_run(settings, LONG)
    seen = Watcher()
    with Database.open(settings.database_url) as database:
        view = AttachedRun(database, run, seen)
        execute(settings, run, in_process=True)
        view.follow()

    assert seen.notices == [f"run {run.id}: executed at epoch 1, and finished since"]
    assert [event.step for event in seen.steps] == list(range(1, 31))


def submit(settings: Settings, folder: Path, *arguments: str) -> list[str]:
    path = folder / "long.toml"
    path.write_text(_TOML)
    return ["submit", str(path), *arguments]


class InterruptAt(Watcher):
    def on_step(self, event: object) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", [RunStatus.INTERRUPTED, RunStatus.QUEUED, RunStatus.CANCELLED])
def test_an_interrupted_run_becomes_what_was_asked(settings: Settings, after: RunStatus) -> None:
    run = new_run(settings, LONG)

    with Database.open(settings.database_url) as database, pytest.raises(KeyboardInterrupt):
        execute_run(
            database,
            settings,
            run.id,
            options=ExecutionOptions(in_process=True, tenure=Tenure(after_interrupt=after)),
            observer=InterruptAt(),
        )

    ended = read_run(settings, run)
    assert (ended.status, ended.owner) == (after, None)
    assert ended.detached is (after is RunStatus.QUEUED)


def test_ctrl_c_leaves_the_runs_to_servers_when_asked(settings: Settings, tmp_path: Path) -> None:
    arguments = submit(settings, tmp_path, "--in-process", "--seeds", "1,2")
    process = command(settings, *arguments, "--on-interrupt", "detach")
    wait_until(lambda: _steps_done(settings) >= 2 or process.poll() is not None, "two steps", 60)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err
    with Database.open(settings.database_url) as database, database.session() as session:
        first, second = RunRepository(session).list()
        assert [first.status, second.status] == [RunStatus.QUEUED] * 2
        assert first.detached and second.detached


def test_a_run_is_queued_without_any_redis(settings: Settings, tmp_path: Path) -> None:
    arguments = submit(settings, tmp_path, "--detach", "--priority", "7", "--json")
    process = command(settings, *arguments)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert "start one with `metafleet serve`" in err
    said = json.loads(out)
    assert (said["status"], said["priority"], said["servers"]) == ("queued", 7, 0)
    with Database.open(settings.database_url) as database, database.session() as session:
        run = RunRepository(session).get(said["run_id"])
    assert (run.status, run.priority, run.detached) == (RunStatus.QUEUED, 7, True)


def _steps_done(settings: Settings) -> int:
    with Database.open(settings.database_url) as database, database.session() as session:
        run = RunRepository(session).find(1)
    return run.steps_done if run else 0


_TOML = """\
name = "long"
[data]
name = "sinusoid"
[episodes]
n_way = 0
k_shot = 5
n_query = 5
[model]
name = "mlp"
hidden = [8]
[learner]
name = "maml"
inner_lr = 0.01
inner_steps = 4
[outer]
steps = 100000
meta_batch_size = 8
[engine]
checkpoint_every = 100000
"""
