"""Runs that no process works on say so, and the advice for them works."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.settings import Settings, orchestrator_environment
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.errors import ConfigError, MetafleetError
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.runs.dead_owners import settle_dead_runs
from metafleet.orchestrator.runs.process_name import process_name
from tests.databases import add_run, new_run
from tests.fleet import ROOT, wait_until
from tests.runs import config, execute, read_run
from tests.runs import new_run as new_experiment

EXPERIMENT = config(
    outer={"steps": 6}, validation={"every": 0}, test={"baselines": False}, engine={}
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))
    monkeypatch.delenv("METAFLEET_DATABASE_URL", raising=False)
    return Settings.load()


def start_endless(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    command = ["submit", "sinusoid-maml", "--in-process", "--set", "outer.steps=100000", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", *command],
        env=orchestrator_environment(settings),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def runs_of(settings: Settings) -> list[RunRecord]:
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        return list(reversed(RunRepository(session).list()))


def test_a_run_whose_process_was_killed_is_interrupted_and_so_are_those_behind_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start_endless(settings, "--seeds", "1,2")

    def is_at_work() -> bool:
        assert process.poll() is None
        return any(run.steps_done > 1 for run in runs_of(settings))

    wait_until(is_at_work, "a step", 60)
    main(["runs", "list", "--json"])
    before = [run["status"] for run in json.loads(capsys.readouterr().out)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    main(["runs", "list", "--json"])
    after = json.loads(capsys.readouterr().out)

    assert before == ["created", "running"]
    assert [run["status"] for run in after] == ["interrupted", "interrupted"]
    assert f":{process.pid} died; `metafleet runs resume 1` goes on" in after[1]["error"]
    assert main(["runs", "attach", "1"]) == 1
    assert "run 1 interrupted after step" in capsys.readouterr().err


def test_runs_of_living_processes_and_of_other_machines_are_left_alone(
    settings: Settings,
) -> None:
    with Database.open(settings.database_url) as database:
        runs = [add_run(database, seed=seed) for seed in (1, 2, 3)]
        owners = (process_name(), "elsewhere:1/0123456789ab-77-a1b2c3d4", "old:1/a1b2c3d4")
        with database.session() as session:
            repository = RunRepository(session)
            for run, owner in zip(runs, owners, strict=True):
                repository.claim(run.id, seen_epoch=0, attach_to=owner)
                repository.mark_status(run.id, RunStatus.RUNNING)

        settle_dead_runs(database)

    assert [run.status for run in runs_of(settings)] == [RunStatus.RUNNING] * 3
    assert [run.owner for run in runs_of(settings)] == list(owners)


def test_a_run_that_could_not_begin_has_failed_and_can_be_resumed(settings: Settings) -> None:
    unreachable = replace(settings, broker_url="redis://127.0.0.1:1/0")
    run = new_experiment(unreachable, EXPERIMENT)
    assert read_run(settings, run).status is RunStatus.CREATED

    with pytest.raises(MetafleetError) as failure:
        execute(unreachable, run)

    now = read_run(settings, run)
    assert (now.status, now.error, now.owner) == (RunStatus.FAILED, str(failure.value), None)
    assert main(["runs", "resume", str(run.id), "--in-process"]) == 0
    assert read_run(settings, run).status is RunStatus.FINISHED


def test_a_run_may_not_have_a_name_that_stands_for_another(settings: Settings) -> None:
    with Database.open(settings.database_url) as database:
        first = add_run(database)
        for name in ("latest", first.uid):
            with (
                pytest.raises(ConfigError, match=f"run name '{name}' .*; choose another name"),
                database.session() as session,
            ):
                RunRepository(session).add(new_run(name=name))
    assert len(runs_of(settings)) == 1


@pytest.mark.parametrize("options", [["--name", "latest"], ["--set", "name=latest"]])
def test_latest_is_no_name_for_a_submitted_run(
    settings: Settings, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["submit", "sinusoid-maml", "--in-process", *options]) == 1

    assert "'latest' stands for the newest run" in capsys.readouterr().err
    assert not (settings.home / "metafleet.db").exists()
