"""Sweeps that servers control: taken over from a killed server, given back, and cancelled."""

import json
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from metafleet.contracts.settings import Settings, child_environment
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus, SweepRecord
from metafleet.db.repositories import RunRepository, SweepRepository
from tests.fleet import Fleet, wait_until
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.conftest import Command
from tests.integration.orchestrator.service.servers import ServerProcess, serving

OVER = ("--over", "outer.lr=log:0.001..0.3", "--trials")


def read_sweep(settings: Settings) -> tuple[SweepRecord, Sequence[RunRecord]]:
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        sweep = SweepRepository(session).get("tiny-sweep")
        return sweep, RunRepository(session).list_of_sweep(sweep.id)


def n_ended(settings: Settings) -> int:
    return sum(run.status.is_final for run in read_sweep(settings)[1])


def without_runs(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(one["trial"], one["status"], one["values"], one["best"]) for one in document["trials"]]


def controls(server: ServerProcess, settings: Settings) -> bool:
    return f":{server.process.pid}/" in (read_sweep(settings)[0].owner or "")


def controller(server: ServerProcess) -> psutil.Process:
    """The process of a server that controls a sweep."""
    began = [e for e in server.events if e["event"] == "sweep" and "pid" in e]
    return psutil.Process(began[-1]["pid"])


@pytest.fixture
def file(fleet: Fleet, command: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    """An experiment; commands of this process use the fleet's settings."""
    for name, value in child_environment(fleet.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METAFLEET_DATABASE_URL", fleet.settings.database_url)
    path = fleet.settings.home / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def test_a_sweep_survives_its_process_and_its_server(
    fleet: Fleet, command: Command, file: str
) -> None:
    settings = fleet.settings
    here = command("sweep", file, *OVER, "6", "--in-process", "--name", "here", "--json")
    expected = json.loads(here[1])
    fleet.start(1)
    status, out, error = command("sweep", file, *OVER, "6", "--detach")
    assert status == 0 and "sweeps show tiny-sweep" in out and "no server is running" in error
    with serving(settings, 2) as servers:
        wait_until(lambda: n_ended(settings) >= 1, "a trial", 90)
        (victim,) = [server for server in servers if controls(server, settings)]
        controller(victim).kill()
        wait_until(lambda: read_sweep(settings)[0].epoch >= 3, "another process", 60)
        wait_until(lambda: n_ended(settings) >= 3, "three trials", 90)
        victim, heir = sorted(servers, key=lambda server: not controls(server, settings))
        victim.kill()
        wait_until(
            lambda: read_sweep(settings)[0].status is RunStatus.FINISHED,
            "the end of the sweep",
            120,
        )
        refused = command("sweep", file, *OVER, "7", "--seed", "1", "--detach")
        heir.stop()

    assert refused[0] == 1 and "was begun with --seed '0', not '1'" in refused[2]
    found = json.loads(command("sweeps", "show", "tiny-sweep", "--json")[1])
    assert found["status"] == "finished" and without_runs(found) == without_runs(expected)
    assert found["best"]["values"] == expected["best"]["values"]
    assert found["meta_test"]["loss"] == expected["meta_test"]["loss"]
    assert found["others_tested"] == []


def test_a_stopped_server_gives_its_sweep_back_and_a_command_goes_on(
    fleet: Fleet, command: Command, file: str
) -> None:
    settings = fleet.settings
    fleet.start(1)
    assert command("sweep", file, *OVER, "200", "--parallel", "2", "--detach")[0] == 0
    with serving(settings, 1) as (server,):
        wait_until(lambda: n_ended(settings) >= 1, "a trial", 90)
        status, _, error = command("sweep", file, *OVER, "200", "--parallel", "2")
        assert status == 1 and "is being executed by" in error and "sweeps cancel" in error
        server.stop()
    sweep, runs = read_sweep(settings)
    assert (sweep.status, sweep.owner) == (RunStatus.QUEUED, None)
    assert "queued" in command("sweeps", "list")[1]

    assert command("sweeps", "cancel", "tiny-sweep")[0] == 0
    sweep, runs = read_sweep(settings)
    assert sweep.status is RunStatus.CANCELLED and all(run.status.is_final for run in runs)
    n_trials = len(runs)
    words = ("sweep", file, *OVER, str(n_trials), "--in-process", "--json")
    status, out, error = command(*words)
    assert status == 0, error
    assert len(json.loads(out)["trials"]) == n_trials
