"""`metafleet runs log`: why an attempt failed, from the database alone, and without secrets."""

import json
import signal
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from metafleet.contracts.connections import connect
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import METADATA, RunRecord
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.monitoring.exporter import make_app as metrics_of
from metafleet.orchestrator.monitoring.monitor import Monitor
from tests.dashboard import serve
from tests.fleet import Fleet, wait_until
from tests.redis_server import PASSWORD
from tests.running import Running
from tests.runs import config, execute, new_run
from tests.talkative import TOKEN

SECRETS = (PASSWORD, TOKEN, "test-key")


@pytest.fixture
def telling(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet whose workers may import the talkative learner; commands use its settings."""
    fleet.settings = replace(fleet.settings, allowed_packages=("tests",))
    monkeypatch.setenv("METAFLEET_HOME", str(fleet.settings.home))
    monkeypatch.delenv("METAFLEET_DATABASE_URL", raising=False)
    return fleet


def start(fleet: Fleet) -> None:
    fleet.start(1, environment={"METAFLEET_LAB_TOKEN": TOKEN})


def run_of(fleet: Fleet, way: str, **engine: Any) -> RunRecord:
    learner = {"name": "tests.talkative:Talkative", "way": way}
    experiment = config(
        outer={"steps": 2, "meta_batch_size": 3},
        validation={"every": 0},
        test={"episodes": 0, "baselines": False},
        engine=engine,
    )
    return new_run(fleet.settings, experiment.model_copy(update={"learner": learner}))


def log_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["runs", "log", "latest", *arguments]) == 0
    return capsys.readouterr().out


def rows_of(url: str) -> str:
    """Return everything in a database as text."""
    with Database.open(url) as database, database.session(read_only=True) as session:
        rows = [session.execute(table.select()).all() for table in METADATA.sorted_tables]
    return repr(rows)


def pages_of(settings: Settings, run: RunRecord) -> str:
    """Return what the dashboard and the exporter tell of the run."""
    texts = [TestClient(metrics_of(Monitor(settings))).get("/metrics").text]
    with Database.open(settings.database_url) as database, serve(database, settings) as served:
        for path in ("/", f"/runs/{run.uid}"):
            with urllib.request.urlopen(served.url + path, timeout=20) as answer:
                texts.append(answer.read().decode())
    return "".join(texts)


def test_an_error_of_the_learner_is_explained_without_secrets(
    telling: Fleet,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    telling.settings = replace(telling.settings, database_url=database_url)
    monkeypatch.setenv("METAFLEET_DATABASE_URL", database_url)
    start(telling)
    run = run_of(telling, "raise")
    execute(telling.settings, run)

    told = log_of(capsys, "--step", "1", "--shard", "0")

    assert "train step 1, shard 0" in told
    assert "attempt 1 on " in told and "failed (error) after " in told
    assert "RuntimeError: no *** for ***" in told
    assert "WARNING lab: connected to redis://:***@127.0.0.1" in told
    assert "printed ?[31mred" in told  # no control characters
    assert "Traceback" in told and "tests/talkative.py" in told
    assert "attempt 2" in told and "counted" in told
    (worker,) = telling.workers
    pages = pages_of(telling.settings, run)
    assert run.uid in pages
    for where in (told, worker.log.read_text(), rows_of(telling.settings.database_url), pages):
        assert not [secret for secret in SECRETS if secret in where]
    line = next(line for line in worker.log.read_text().splitlines() if "connected to" in line)
    assert f"[run={run.uid} stream=train step=1 shard=0 attempt=1 worker=" in line
    assert "attempt 2" not in log_of(capsys)  # which counted


def test_the_lines_of_a_killed_worker_survive_it(
    telling: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    start(telling)
    running = Running(telling.settings, run=run_of(telling, "sleep"))
    home = telling.settings.home
    wait_until((home / "talked").exists, "the job began", 60)
    with connect(str(telling.settings.broker_url)) as client:
        wait_until(lambda: client.exists(f"mf:{{{running.run.uid}}}:logs"), "kept lines", 20)
    telling.workers[0].send(signal.SIGKILL)
    start(telling)
    running.result()

    (view,) = [json.loads(line) for line in log_of(capsys, "--json").splitlines()]

    assert [each["outcome"] for each in view["outcomes"]] == ["lost"]
    assert any("lab: connected to" in line for line in view["log"])
    assert view["worker"].endswith(f":{telling.workers[0].pid}")


def test_a_job_that_hangs_tells_where(telling: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    start(telling)
    execution = run_of(telling, "sleep", job_deadline_s=2)
    running = Running(telling.settings, run=execution)
    wait_until((telling.settings.home / "talked").exists, "the job began", 60)
    start(telling)
    running.result()

    told = log_of(capsys)

    assert "lost (hung)" in told
    assert "passed its deadline of 2 s; it is at:" in told
    assert "time.sleep(60)" in told


def test_lines_of_attempts_that_count_are_kept_on_request(
    telling: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    start(telling)
    execute(telling.settings, run_of(telling, "well"))
    assert "every attempt of run 1 (sinusoid) counted so far" in log_of(capsys)
    told = log_of(capsys, "--step", "1")
    assert "counted after" in told and "METAFLEET_ATTEMPT_LOGS=all" in told

    (telling.settings.home / "talked").unlink()
    telling.settings = replace(telling.settings, attempt_logs="all")
    execute(telling.settings, run_of(telling, "well"))

    told = log_of(capsys, "--step", "1")
    assert "lab: connected to redis://:***@" in told
    assert "began a job of 3 episodes" in told
    assert "counted after" in told


def test_what_was_not_recorded_is_refused_in_one_line(
    telling: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(telling.settings, run_of(telling, "well"), in_process=True)
    capsys.readouterr()
    for arguments, message in (
        (("--step", "9"), "error: run 1 has no jobs of step 9; it has done 2 outer steps\n"),
        (("--step", "1", "--shard", "7"), "error: shard 7 of step 1 of run 1; it has shards 0 to"),
    ):
        assert main(["runs", "log", "1", *arguments]) == 1
        assert capsys.readouterr().err.startswith(message)
