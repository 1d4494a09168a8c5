"""`metafleet suggest`, with runs in the database and without."""

import json
from pathlib import Path
from typing import Any

import pytest

from metafleet.contracts.settings import Settings
from metafleet.data.registry import open_data
from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord, NewRun, RunStatus
from metafleet.db.repositories import EvaluationRepository, RunNotes, RunRepository
from metafleet.describing.description import Description
from metafleet.errors import DataCorruptError
from metafleet.orchestrator.advice import knowledge
from metafleet.orchestrator.advice.descriptions import describe_and_store
from metafleet.orchestrator.advice.past_runs import read_past_runs
from tests.advice import description
from tests.folders import picture, write
from tests.integration.orchestrator.conftest import Command

CONFIG: dict[str, Any] = {
    "episodes": {"n_way": 0, "k_shot": 10, "n_query": 10},
    "model": {"name": "mlp", "hidden": [8]},
    "learner": {"name": "maml", "inner_lr": 0.01, "inner_steps": 1},
    "outer": {"steps": 20, "meta_batch_size": 2, "lr": 0.001},
    "validation": {"every": 10, "episodes": 20},
}


def add_run(
    database: Database,
    digest: str,
    *,
    lr: float,
    result: float,
    data: Any = "sinusoid",
    **more: Any,
) -> int:
    """Add a finished run with one validation: an accuracy, or in regression a loss."""
    shape = {"n_way": more.pop("n_way", 0)}
    options = data if isinstance(data, dict) else {"name": data}
    config = CONFIG | {"data": options, "outer": CONFIG["outer"] | {"lr": lr}}
    config["episodes"] = CONFIG["episodes"] | shape
    is_share = shape["n_way"] > 0
    with database.session() as session:
        runs = RunRepository(session)
        run = runs.add(
            NewRun(
                experiment="e",
                name="e",
                seed=more.get("seed", 1),
                n_steps=20,
                config=config,
                data_digest=digest,
            )
        )
        evaluation = EvaluationRecord(
            step=20,
            split="meta_val",
            label="trained",
            episodes=20,
            loss=1.0 if is_share else result,
            loss_ci95=0.1,
            accuracy=result if is_share else None,
            accuracy_ci95=0.01 if is_share else None,
            batch_norm="none",
            is_best=True,
        )
        EvaluationRepository(session).upsert_many(run.id, [evaluation])
        runs.mark_status(run.id, more.get("status", RunStatus.FINISHED))
    return run.id


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of small pictures, with classes for all three splits."""
    names = {f"c{c:02d}/{i}.png": picture(20 * c + i) for c in range(18) for i in range(8)}
    return write(tmp_path / "pets", names)


def test_runs_that_can_be_compared_form_a_contest(database: Database) -> None:
    known = {"d1": description(0.4), "d2": description(0.6)}
    for digest in known:
        first = add_run(database, digest, lr=0.1, result=0.6, n_way=5, data="glyphs")
        again = add_run(database, digest, lr=0.1, result=0.8, n_way=5, data="glyphs", seed=2)
        other = add_run(database, digest, lr=0.01, result=0.5, n_way=5, data="glyphs")
    add_run(database, "d2", lr=0.1, result=0.3, n_way=20, data="glyphs")
    add_run(database, "d2", lr=0.3, result=0.9, n_way=5, status=RunStatus.FAILED)
    hidden = add_run(database, "d2", lr=0.4, result=0.9, n_way=5)
    add_run(database, "unknown", lr=0.1, result=0.9, n_way=5)
    with database.session() as session:
        RunNotes(session).set_archived(hidden, archived=True)

    with database.session(read_only=True) as session:
        found = read_past_runs(session, known)
    assert set(found.undescribed) == {"unknown"}
    (second,) = [c for c in found.contests if c.description is known["d2"] and c.n_way == 5]
    by_rate = {r.values["outer.lr"]: r for r in second.results}
    assert by_rate[0.1].score == pytest.approx(0.7) and by_rate[0.1].runs == (first, again)
    assert by_rate[0.01].runs == (other,) and set(by_rate) == {0.1, 0.01}
    assert len(found.contests) == 3


def test_runs_of_the_database_are_ranked_and_their_file_can_be_submitted(
    command: Command, tmp_path: Path
) -> None:
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        known = describe_and_store(database, settings, {"name": "function_families"})
        for number, lr in enumerate((0.0001, 0.001, 0.01)):
            add_run(database, known.digest, lr=lr, result=2.0 - number, data="function_families")
    file = tmp_path / "found.toml"
    status, output, errors = command("suggest", "sinusoid", "--out", str(file))

    assert (status, errors) == (0, "")
    assert "function_families run 3 (rank 1.00)" in output
    assert "evidence: 3 runs on 1 data set (runs in the database)" in output
    assert "losses of different data are not comparable" in output
    text = file.read_text()
    assert "lr = 0.01" in text and 'name = "sinusoid"' in text
    _, output, _ = command("suggest", "sinusoid", "--json", "--top", "2")
    found = json.loads(output)
    assert [each["values"]["outer.lr"] for each in found["suggestions"]] == [0.01, 0.001]
    assert found["runs"] == 3 and found["expected"] is None and not found["from_portfolio"]
    changes = ("outer.steps=2", "validation.every=1", "validation.episodes=2", "test.episodes=0")
    sets = [part for change in changes for part in ("--set", change)]
    status, _, errors = command("submit", str(file), "--in-process", *sets)
    assert status == 0, errors


def test_a_damaged_data_set_of_past_runs_does_not_stop_the_others(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load()

    def describe(*arguments: Any) -> Description:
        if arguments[2]["name"] == "function_families":
            raise DataCorruptError("a file is damaged")
        return describe_and_store(*arguments)

    monkeypatch.setattr(knowledge, "describe_and_store", describe)
    with Database.open(settings.database_url) as database:
        digest = open_data({"name": "function_families"}, settings.data_dir).digest()
        known = describe_and_store(database, settings, {"name": "sinusoid"})
        for lr in (0.01, 0.1):
            add_run(database, digest, lr=lr, result=1.0, data="function_families")
            add_run(database, known.digest, lr=lr, result=lr)
    status, output, errors = command("suggest", "sinusoid")

    assert status == 0 and "evidence: 2 runs on 1 data set" in output
    assert "1 data sets of past runs have no description ('function_families')" in errors


def test_an_empty_database_uses_the_portfolio(command: Command, pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "pets.toml"
    status, output, errors = command("suggest", str(pets), "--out", str(file))

    assert status == 0, errors
    assert "results that Metafleet ships" in output
    assert "expected meta_val accuracy of the first" in output
    changes = ("outer.steps=1", "validation.every=1", "validation.episodes=2", "test.episodes=0")
    sets = [part for change in changes for part in ("--set", change)]
    status, _, errors = command("submit", str(file), "--in-process", *sets)
    assert status == 0, errors


def test_episodes_are_as_large_as_the_data_allow(command: Command, pets: Path) -> None:
    _, output, _ = command("suggest", str(pets), "--json", "--top", "1")
    episodes = json.loads(output)["suggestions"][0]["experiment"]["episodes"]
    _, output, _ = command("suggest", str(pets), "--json", "--k-shot", "5", "--n-way", "2")
    wanted = json.loads(output)["suggestions"][0]["experiment"]["episodes"]

    assert (episodes["k_shot"], episodes["n_query"]) == (1, 5) and 2 <= episodes["n_way"] <= 5
    assert (wanted["n_way"], wanted["k_shot"], wanted["n_query"]) == (2, 5, 3)


def test_runs_on_another_split_are_named(command: Command, pets: Path) -> None:
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        other = {"name": "folder", "path": str(pets), "split_seed": 5}
        known = describe_and_store(database, settings, other)
        for lr, accuracy in ((0.01, 0.5), (0.1, 0.7)):
            add_run(database, known.digest, lr=lr, result=accuracy, n_way=2, data=other)
        add_run(database, known.digest, lr=0.1, result=0.7, n_way=3, data=other)
    status, _, errors = command("suggest", str(pets), "--top", "1")

    assert status == 0
    assert "2 runs" in errors and "another split or other options" in errors
    assert "1 configuration cannot be ranked and is not used: no other one was tried" in errors


def test_bad_input_is_refused_on_one_line(command: Command, pets: Path, tmp_path: Path) -> None:
    for arguments, message in {
        ("nonesuch",): "there is no data set 'nonesuch'",
        ("omniglot",): "metafleet data prepare omniglot",
        ("sinusoid",): "no evidence: there are no finished runs with validation on regression",
        ("sinusoid", "--n-way", "5"): "regression; leave --n-way out",
        (str(pets), "--n-way", "50"): "n_way=50 but split",
        (str(pets), "--out", "x.json"): "expected the name of a file in .toml",
        (str(pets), "--out", str(tmp_path / "no" / "x.toml")): "no/x.toml",
    }.items():
        status, output, errors = command("suggest", *arguments)
        assert status != 0 and output == "", arguments
        assert message in errors and errors.count("\n") == 1, errors
