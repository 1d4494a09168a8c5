"""Sweeps that learn from past runs: their first configurations, and early stopping."""

import json
from pathlib import Path

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord, NewRun, RunStatus
from metafleet.db.repositories import EvaluationRepository, RunRepository
from metafleet.orchestrator.advice.descriptions import describe_and_store
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.conftest import Command

WARM = ("--over", "outer.lr=log:0.0001..0.5", "--trials", "4", "--warm-start", "--in-process")


@pytest.fixture
def file(tmp_path: Path, home: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def add_past(database: Database, digest: str, *, lr: float, losses: tuple[float, ...]) -> None:
    """Add a finished run of six steps with validations after each second one."""
    config = {
        "data": {"name": "function_families"},
        "episodes": {"n_way": 0, "k_shot": 5, "n_query": 5},
        "model": {"name": "mlp", "hidden": [8]},
        "learner": {"name": "maml"},
        "outer": {"steps": 6, "lr": lr},
        "validation": {"every": 2, "episodes": 4},
    }
    with database.session() as session:
        runs = RunRepository(session)
        run = runs.add(
            NewRun(experiment="p", name="p", seed=1, n_steps=6, config=config, data_digest=digest)
        )
        rows = [
            EvaluationRecord(
                step=2 * number,
                split="meta_val",
                label="trained",
                episodes=4,
                loss=loss,
                loss_ci95=0.1,
                accuracy=None,
                accuracy_ci95=None,
                batch_norm="none",
                is_best=True,
            )
            for number, loss in enumerate(losses, 1)
        ]
        EvaluationRepository(session).upsert_many(run.id, rows)
        runs.mark_status(run.id, RunStatus.FINISHED)


def test_a_warm_start_tries_the_best_past_configurations_first(command: Command, file: str) -> None:
    with Database.open(Settings.load().database_url) as database:
        known = describe_and_store(database, Settings.load(), {"name": "function_families"})
        for lr, loss in ((0.003, 2.0), (0.03, 1.0), (0.3, 3.0), (0.9, 0.1)):
            add_past(database, known.digest, lr=lr, losses=(4.0, loss))
    status, out, error = command("sweep", file, *WARM, "--json")

    assert status == 0, error
    assert "the first 3 trials are those of 4 runs on 1 data set (runs in the database)" in error
    tried = [trial["values"]["outer.lr"] for trial in json.loads(out)["trials"]]
    assert tried[:3] == [0.03, 0.003, 0.3] and len(tried) == 4  # 0.9 is outside the space
    # the same command finds the same sweep, although its own runs are past runs by now
    again = json.loads(command("sweep", file, *WARM, "--json")[1])
    assert [trial["values"]["outer.lr"] for trial in again["trials"]] == tried
    without = [word for word in WARM if word != "--warm-start"]
    status, out, error = command("sweep", file, *without)
    assert (status, out) == (1, "")
    assert "was begun with --warm-start" in error and error.count("\n") == 1


def test_a_warm_start_without_evidence_is_refused(command: Command, file: str) -> None:
    status, out, error = command("sweep", file, *WARM)

    assert (status, out) == (1, "")
    assert "--warm-start: no data set has 2 results" in error and error.count("\n") == 1
    assert command("runs", "list", "--json")[1] == "[]\n"


def test_past_curves_end_trials_that_are_far_behind(command: Command, file: str) -> None:
    with Database.open(Settings.load().database_url) as database:
        known = describe_and_store(database, Settings.load(), {"name": "function_families"})
        for number in range(50):  # good runs are never more than a hundredth behind
            good = 1 + 0.0002 * number
            losses = (2 * good, 1.5 * good, good) if number < 25 else (9.0, 9.0, 9.0)
            add_past(database, known.digest, lr=0.001 * (number + 1), losses=losses)
    words = ("sweep", file, "--over", "outer.lr=0.1,0.000001", "--in-process", "--json")
    longer = ("--set", "outer.steps=12", "--set", "validation.every=2")
    status, out, error = command(*words, *longer, "--prune", "history")

    assert status == 0, error
    first, second = json.loads(out)["trials"]
    assert first["status"] == "finished" and second["status"] == "pruned"
    assert "by the pruner 'history'" in second["why"]
    status, out, _ = command(*words, *longer, "--prune", "median", "--name", "median")
    assert [trial["status"] for trial in json.loads(out)["trials"]] == ["finished", "finished"]


def test_without_past_curves_no_trial_ends_early(command: Command, file: str) -> None:
    words = ("sweep", file, "--over", "outer.lr=0.1,0.000001", "--in-process", "--json")
    status, out, error = command(*words, "--prune", "history")

    assert status == 0, error
    assert [trial["status"] for trial in json.loads(out)["trials"]] == ["finished", "finished"]
