"""The size of jobs is measured once, recorded, and reused when the run is resumed."""

import signal
from dataclasses import replace

import pytest

from metafleet.contracts.connections import connect
from metafleet.db.engine import Database
from metafleet.orchestrator.autotune import preparation
from metafleet.orchestrator.runs import run_session
from metafleet.orchestrator.runs.launch import create_runs
from tests.fleet import Fleet, wait_until
from tests.runs import (
    InterruptAt,
    Watcher,
    config,
    end_lease,
    execute,
    new_run,
    read_jobs,
    read_run,
    sigkill,
    start_orchestrator,
    undisturbed,
)

AUTO = {"episodes_per_job": "auto"}


def test_it_is_measured_once_and_used_after_a_kill(
    standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standing_fleet.settings
    run = new_run(settings, config(outer={"steps": 40}, engine=AUTO))
    victim = start_orchestrator(settings, run)
    wait_until(lambda: read_run(settings, run).steps_done >= 5, "step 5", 60)
    sigkill(victim)
    assert victim.returncode == -signal.SIGKILL, "it had ended before it was killed"
    end_lease(settings, run)
    measured = read_run(settings, run).calibration
    assert measured is not None
    monkeypatch.setattr(preparation, "calibrate_fleet", _never)

    report = execute(settings, run)

    size = measured["episodes_per_job"]
    given = config(outer={"steps": 40}, engine={"episodes_per_job": size})
    assert report.checkpoint_sha256 == undisturbed(settings, given)
    assert read_run(settings, run).calibration == measured
    (speed,) = measured["classes"]
    assert (speed["device"], speed["hardware"], speed["processes"]) == ("cpu", ["cpu"], 2)
    assert 0 < speed["least_s"] <= speed["episode_s"] <= speed["most_s"]
    assert {job.episodes for job in read_jobs(settings, run)} <= {size, 10 % size}


def test_measuring_leaves_no_key_and_counts_nowhere(standing_fleet: Fleet) -> None:
    settings = standing_fleet.settings
    watcher = Watcher()
    run = new_run(settings, config(outer={"steps": 2}, engine=AUTO))

    report = execute(settings, run, watcher=watcher)

    with connect(str(settings.broker_url)) as client:
        assert [key for key in client.keys("*") if b"calibrate" in key] == []
    assert read_jobs(settings, run, stream="calibrate") == ()
    assert [step.step for step in watcher.steps] == [1, 2]
    assert any("to a job, by measurement: cpu" in notice for notice in watcher.notices)
    assert report.steps == 2


def test_a_run_measured_in_this_process_goes_on_over_the_fleet(
    standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standing_fleet.settings
    run = new_run(settings, config(engine=AUTO))
    with pytest.raises(KeyboardInterrupt):
        execute(settings, run, in_process=True, watcher=InterruptAt(6))
    measured = read_run(settings, run).calibration
    assert measured is not None
    monkeypatch.setattr(preparation, "calibrate_fleet", _never)

    report = execute(settings, run)

    given = config(engine={"episodes_per_job": measured["episodes_per_job"]})
    assert report.checkpoint_sha256 == undisturbed(settings, given)


def test_what_another_wrote_down_first_is_what_counts(
    standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standing_fleet.settings
    quiet = replace(settings, database_url=f"sqlite:///{settings.home}/first.db")
    with Database.open(quiet.database_url) as database:
        donor, run = create_runs(database, quiet, config(engine=AUTO), seeds=[3, 3])
    execute(quiet, donor, in_process=True)
    written = dict(read_run(quiet, donor).calibration or {}) | {"episodes_per_job": 7}
    monkeypatch.setattr(
        run_session.Recorder, "keep_calibration", lambda _self, _measured: dict(written)
    )

    report = execute(quiet, run, in_process=True)

    given = config(engine={"episodes_per_job": 7})
    assert report.checkpoint_sha256 == undisturbed(settings, given)


def _never(*_: object, **__: object) -> None:
    raise AssertionError("it was measured again")
