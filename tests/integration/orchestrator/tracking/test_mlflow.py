"""Runs in MLflow, read back by its client: complete, each point once, whatever happens."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.client.client import Client
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.tracking.live import tracked_run
from metafleet.tracking.mlflow import METRICS_AT_ONCE, MlflowSink
from tests.databases import add_run
from tests.integration.orchestrator.cli.terminal import TINY
from tests.integration.orchestrator.tracking.rows import (
    follower,
    mark,
    record_checkpoint,
    record_evaluation,
    record_steps,
)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs. To create one takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(uri: str) -> Iterator[MlflowClient]:
    yield MlflowClient(tracking_uri=uri)


def children(client: MlflowClient, experiment: str = "e1") -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    return [one for one in runs if "mlflow.parentRunId" in one.data.tags]


def points(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    history = client.get_metric_history(run_id, key)
    return sorted((one.step, one.value) for one in history)


def test_seeds_are_children_of_their_experiment(
    database: Database, uri: str, client: MlflowClient
) -> None:
    for seed in (1, 2):
        run = add_run(database, seed=seed)
        record_steps(database, run, 1, 3)
        record_evaluation(database, run, 3)
        record_checkpoint(database, run, 2)
        mark(database, run, RunStatus.FINISHED)
        follower(database, run, MlflowSink(uri)).end()

    one, two = sorted(children(client), key=lambda it: it.data.tags["metafleet.seed"])
    assert one.data.params["outer.lr"] == "0.001"
    assert one.data.params["note"] == "Łódź ✓"
    assert points(client, two.info.run_id, "meta_train/loss") == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3)
    ]
    assert points(client, two.info.run_id, "meta_val/score") == [(3, 0.875)]
    assert points(client, two.info.run_id, "checkpoint/size_bytes") == [(2, 1002)]
    assert one.data.tags["metafleet.checkpoint"].endswith("2 /runs/2.safetensors")
    parent_id = one.data.tags["mlflow.parentRunId"]
    assert two.data.tags["mlflow.parentRunId"] == parent_id
    parent = client.get_run(parent_id)
    assert parent.info.run_name == "e1"
    assert [it.info.status for it in (one, two, parent)] == ["FINISHED"] * 3


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (RunStatus.FAILED, "FAILED"),
        (RunStatus.CANCELLED, "KILLED"),
        (RunStatus.INTERRUPTED, "RUNNING"),
    ],
)
def test_the_status_is_true(
    database: Database, uri: str, client: MlflowClient, status: RunStatus, shown: str
) -> None:
    run = add_run(database)
    mark(database, run, status, error="it broke")
    follower(database, run, MlflowSink(uri)).end()

    (found,) = children(client)
    assert found.info.status == shown
    assert found.data.tags["metafleet.status"] == f"{status.value}: it broke"
    assert client.get_run(found.data.tags["mlflow.parentRunId"]).info.status == shown


def test_a_resumed_run_sends_only_what_is_missing(
    database: Database, uri: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 1_200)
    for step in range(100, 1_200, 2):
        record_evaluation(database, run, step)
    follower(database, run, MlflowSink(uri)).send()  # and killed
    mark(database, run, RunStatus.FAILED, error="lost")
    follower(database, run, MlflowSink(uri)).end()
    mark(database, run, RunStatus.RUNNING)
    record_steps(database, run, 1_195, 1_205)  # the steps after the checkpoint are computed again
    record_evaluation(database, run, 1_204)
    sent: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, **batch: Any) -> Any:
        assert len(batch.get("metrics", ())) + len(batch.get("tags", ())) <= METRICS_AT_ONCE
        assert not batch.get("params"), "parameters are sent once"
        sent.extend(metric.step for metric in batch["metrics"])
        return log_batch(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    resumed = follower(database, run, MlflowSink(uri))
    resumed.send()

    (found,) = children(client)
    assert found.info.status == "RUNNING"
    assert set(sent) == set(range(1_201, 1_206))
    mark(database, run, RunStatus.FINISHED)
    resumed.end()
    (found,) = children(client)
    losses = points(client, found.info.run_id, "meta_train/loss")
    assert losses == [(step, pytest.approx(1 / step)) for step in range(1, 1_206)]
    validations = points(client, found.info.run_id, "meta_val/score")
    assert [step for step, _ in validations] == [*range(100, 1_200, 2), 1_204]
    assert found.info.status == "FINISHED"


@pytest.fixture
def default_uri(uri: str) -> Iterator[None]:
    """The test's store is the default of the process, as after MLflow's own call in a script."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("default_uri")
def test_an_open_run_is_used_and_left_open(database: Database, client: MlflowClient) -> None:
    mine = client.create_run(client.create_experiment("mine"))
    run, other = add_run(database), add_run(database, seed=2)
    record_steps(database, run, 1, 2)
    mark(database, run, RunStatus.FINISHED)
    settings = Settings.load({})
    Run(database, settings, run).send_to(mine)
    Run(database, settings, run).send_to(mine.info.run_id)

    found = client.get_run(mine.info.run_id)
    assert len(client.get_metric_history(mine.info.run_id, "meta_train/loss")) == 2
    assert found.info.status == "RUNNING"
    assert found.data.params["outer.steps"] == "1000"
    with pytest.raises(ConfigError, match=f"already has run {run.uid}; expected one run in it"):
        Run(database, settings, other).send_to(mine)


def test_a_run_is_sent_while_it_is_executed(
    home: Path, tmp_path: Path, uri: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    monkeypatch.setenv("METAFLEET_TRACK", f"mlflow:{uri}")
    with Client() as records:
        runs = records.train(file, seeds=[1, 2], in_process=True)
    curves = {run.seed: run.curve() for run in runs}

    found = children(client, runs[0].value("experiment"))
    assert {one.info.status for one in found} == {"FINISHED"}
    for one in found:
        curve = curves[int(one.data.tags["metafleet.seed"])]
        sent = points(client, one.info.run_id, "meta_train/loss")
        assert sent == list(zip(curve["step"], curve["loss"], strict=True))
    before = points(client, found[0].info.run_id, "meta_train/loss")
    command = ["runs", "export", str(runs[0].value("name")), "--format", "mlflow", "--output", uri]
    assert main(command) == 0
    assert points(client, found[0].info.run_id, "meta_train/loss") == before


def test_a_server_that_fails_does_not_stop_the_run(
    database: Database, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 3)
    closed: list[bool] = []

    def fail(*arguments: object, **named: object) -> None:
        raise MlflowException("503: no\nroom")

    monkeypatch.setattr(MlflowClient, "log_batch", fail)
    monkeypatch.setattr(MlflowSink, "close", lambda self: closed.append(True))
    notices: list[str] = []
    with tracked_run(database, run.uid, [f"mlflow:{uri}"], notices.append):
        mark(database, run, RunStatus.FINISHED)

    (notice,) = notices
    assert "gets no more of this run (503: no room); the run goes on" in notice
    assert f"`metafleet runs export {run.uid} --format mlflow --output {uri}` sends the" in notice
    assert closed


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'metafleet\[mlflow\]'"):
        MlflowSink("http://localhost:1")
