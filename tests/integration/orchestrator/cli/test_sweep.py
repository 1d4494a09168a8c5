"""Sweeps from the command line: resumed, over servers, and their choice tested once."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from metafleet.contracts.settings import Settings, child_environment
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import EvaluationRepository, RunRepository
from tests.fleet import Fleet, wait_until
from tests.forks import Fork, run_metafleet
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.conftest import Command
from tests.integration.orchestrator.service.servers import ServerProcess

LR = ("--over", "outer.lr=log:0.001..0.3")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def judged(home: Path) -> list[tuple[int, int]]:
    """Run id and episodes of every meta-test in a database."""
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session(read_only=True) as session,
    ):
        runs = RunRepository(session).list(limit=None)
        evaluations = EvaluationRepository(session)
        return [(r.id, e.episodes) for r in runs for e in evaluations.list(r.id, split="meta_test")]


def ended(home: Path) -> int:
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session(read_only=True) as session,
    ):
        return sum(r.status.is_final for r in RunRepository(session).list(limit=None))


def test_only_the_best_configuration_is_tested_and_once(
    home: Path, command: Command, file: str
) -> None:
    grid = ("sweep", file, "--over", "outer.lr=0.0001,0.01,0.1", "--in-process")
    status, out, error = command(*grid)

    assert status == 0 and "sweep tiny-sweep: 3 trials (grid)" in error
    rows = [line.split() for line in out.splitlines()[3:6]]
    losses = [float(row[3]) for row in rows]
    assert losses == sorted(losses) and {row[2] for row in rows} == {"0.0001", "0.01", "0.1"}
    best = int(rows[0][1])
    assert f"best of 3 configurations: trial {rows[0][0]}" in out
    assert judged(home) == [(best, 4)]
    assert f"runs clone {best} --set test.episodes=4 --seeds 1,2,3" in out
    document = json.loads(command(*grid, "--json")[1])
    assert judged(home) == [(best, 4)] and ended(home) == 3
    assert document["best"]["run"] == best and document["meta_test"]["episodes"] == 4
    listed = command("runs", "list", "--where", "tags=sweep:tiny-sweep", "--columns", "id,name")[1]
    assert listed.count("tiny-sweep") == 3


def test_more_trials_are_added_and_other_options_are_refused(
    home: Path, command: Command, file: str
) -> None:
    sweep = ("sweep", file, *LR, "--in-process")
    assert command(*sweep, "--trials", "2")[0] == 0
    first = json.loads(command(*sweep, "--trials", "2", "--json")[1])
    more = json.loads(command(*sweep, "--trials", "3", "--json")[1])

    assert more["trials"][:2] == first["trials"] and len(more["trials"]) == 3
    for others, said in (
        (("--seed", "1"), "was begun with other --over, --sampler or --seed"),
        (("--sampler", "tpe"), "was begun with other --over, --sampler or --seed"),
        (("--over", "learner.inner_steps=1,2"), "other --over, --sampler or --seed"),
        (("--set", "outer.steps=9"), "was begun with outer.steps=6, not 9"),
        (("--set", "data.noise_std=0.5"), "was begun with data.noise_std=None, not 0.5"),
    ):
        status, out, error = command(*sweep, "--trials", "3", *others)
        assert status == 1 and out == "" and said in error and error.count("\n") == 1
    assert ended(home) == 3


def test_a_deleted_trial_is_tried_again(home: Path, command: Command, file: str) -> None:
    grid = ("sweep", file, "--over", "outer.lr=0.0001,0.01,0.1", "--in-process", "--json")
    first = json.loads(command(*grid)[1])
    deleted = first["trials"][0]["run"]
    assert command("runs", "delete", str(deleted), "--yes")[0] == 0

    status, out, _ = command(*grid)
    assert status == 0
    assert [one["values"] for one in json.loads(out)["trials"]] == [
        one["values"] for one in first["trials"]
    ]
    assert ended(home) == 3


def test_a_trial_that_diverges_does_not_end_the_sweep(
    home: Path, command: Command, file: str
) -> None:
    status, out, error = command(
        *("sweep", file, "--over", "learner.inner_lr=1e30,0.01", "--in-process")
    )

    assert status == 0 and "run 1 failed, and the sweep goes on" in error
    assert "failed" in out and "best of 2 configurations: trial 1" in out
    status, out, error = command(
        *("sweep", file, "--over", "learner.inner_lr=1e30,1e29", "--in-process", "--name", "x")
    )
    assert status == 1 and "none of 2 trials of sweep 'x' has finished" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--over", "outer.lrs=1,2"), "trial 0 (outer.lrs=1): --over: outer.lrs is not a known"),
        (("--over", "outer.lr=1,2", "--set", "validation.every=0"), "validation.every=0"),
        (("--over", "outer.lr=1..2", "--sampler", "grid"), "--sampler grid needs values"),
        (("--over", "outer.lr=1,2", "--parallel", "2"), "--parallel leaves trials to servers"),
        (("--over", "outer.lr=1,2", "--name", "x" * 60), "--name has 60 characters"),
        (("--over", "episodes.k_shot=1,2"), "would change the meta-validation"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_line(
    home: Path, command: Command, file: str, arguments: tuple[str, ...], said: str
) -> None:
    status, out, error = command("sweep", file, *arguments, "--in-process")

    last = error.splitlines()[-1]
    assert status != 0 and out == "" and last.startswith("error: ") and said in last
    assert not (home / "metafleet.db").exists() or ended(home) == 0


def test_a_sweep_killed_at_random_goes_on_to_the_same_trials(
    home: Path, command: Command, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sweep", file, *LR, "--over", "learner.inner_steps=1,2", "--sampler", "tpe"]
    words += ["--trials", "11", "--in-process"]
    quiet = tmp_path / "undisturbed"
    monkeypatch.setenv("METAFLEET_HOME", str(quiet))
    expected = json.loads(command(*words, "--json")[1])
    monkeypatch.setenv("METAFLEET_HOME", str(home))
    environment = child_environment(Settings.load())
    draw = random.Random(5)
    for at_least in (1, 4, 9):
        process = Fork(run_metafleet, words, environment=environment, log=tmp_path / "log")
        wait_until(
            lambda n=at_least: (home / "metafleet.db").exists() and ended(home) >= n,
            f"{at_least} ended trials",
            60,
        )
        wait_until(lambda: draw.random() < 0.2, "a moment", 10)
        process.kill()
        process.wait(10)

    found = json.loads(command(*words, "--json")[1])
    assert without_times(found) == without_times(expected)
    assert checkpoints(home) == checkpoints(quiet)


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    test = {k: v for k, v in document["meta_test"].items() if k != "created_at"}
    return document | {"meta_test": test}


def checkpoints(home: Path) -> list[str | None]:
    with (
        Database.open(f"sqlite:///{home}/metafleet.db") as database,
        database.session(read_only=True) as session,
    ):
        return [run.checkpoint_sha256 for run in RunRepository(session).list(limit=None)]


def test_servers_execute_the_trials(
    standing_fleet: Fleet, command: Command, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standing_fleet.settings
    here = json.loads(command("sweep", file, *LR, "--trials", "4", "--in-process", "--json")[1])
    for name, value in child_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METAFLEET_DATABASE_URL", settings.database_url)
    server = ServerProcess(settings)
    try:
        words = ("sweep", file, *LR, "--trials", "4", "--parallel", "2", "--json")
        status, out, error = command(*words)
    finally:
        server.stop()

    assert status == 0, error
    found = json.loads(out)
    shown = [(one["values"], one["best"], one["status"]) for one in found["trials"]]
    assert shown == [(one["values"], one["best"], one["status"]) for one in here["trials"]]
    assert found["best"]["values"] == here["best"]["values"]
    assert found["meta_test"]["loss"] == here["meta_test"]["loss"]
    assert "trial 3 (run" in error
    with Database.open(settings.database_url) as database, database.session() as session:
        run = RunRepository(session).get(found["trials"][0]["run"])
        assert run.detached and run.status is RunStatus.FINISHED
