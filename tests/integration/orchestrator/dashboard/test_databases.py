import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunRepository
from tests.dashboard import serve
from tests.dashboard_runs import add_run


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def test_every_page_reads_sqlite_and_postgresql(
    database: Database, database_url: str, settings: Settings
) -> None:
    for seed in (1, 2):
        for rate in (0.01, 0.02):
            add_run(database, seed=seed, learner={"inner_lr": rate})
    add_run(database, status=RunStatus.RUNNING, steps=7)

    with serve(database, replace(settings, database_url=database_url)) as served:
        for path, expected in (
            ("/", 'id="run-5"'),
            ("/?group=1&sort=-best&baseline=1", "Compared with"),
            ("/?state=running", 'id="run-5"'),
            ("/runs/1", "omniglot"),
            ("/compare?run=1&run=2", "learner.inner_lr"),
            ("/compare?run=1&run=2&group=1", "0.02"),
        ):
            assert expected in get(served.url + path), path
        loss = json.loads(get(f"{served.url}/runs/5/curves.json"))["charts"]["loss"]
        assert loss["x"] == [1, 2, 3, 4, 5, 6, 7]
        compared = json.loads(get(f"{served.url}/compare.json?run=1&run=2"))["charts"]
        assert len(compared["accuracy"]["series"]) == 2


def test_events_name_what_has_changed(
    database: Database, database_url: str, settings: Settings
) -> None:
    run = add_run(database, status=RunStatus.RUNNING, steps=7)
    with (
        serve(database, replace(settings, database_url=database_url)) as served,
        urllib.request.urlopen(f"{served.url}/events", timeout=20) as stream,
    ):
        while stream.readline() != b"event: hello\n":
            pass
        with database.session() as session:
            RunRepository(session).set_progress(run.id, steps_done=8)
        while stream.readline() != b"event: changed\n":
            pass
        assert stream.readline() == b'data: ["run-1", "runs"]\n'


@pytest.mark.parametrize("path", ["/runs/x/curves.json", "/compare?run=1", "/compare?run=1&run=1"])
def test_what_does_not_exist_is_one_line(settings: Settings, path: str) -> None:
    with Database.open(settings.database_url) as database, serve(database, settings) as served:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(served.url + path)
        assert refused.value.code in (400, 404)
        assert b"Traceback" not in refused.value.read()
