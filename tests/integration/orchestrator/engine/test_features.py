"""Features are computed once and travel by digest: the same bits on every worker."""

import json
from dataclasses import replace
from pathlib import Path

from metafleet.contracts.connections import connect
from metafleet.db.engine import Database
from metafleet.db.repositories import RunRepository
from metafleet.encoders.registry import get_encoder
from metafleet.orchestrator.training.events import StepDone
from tests.encoded import ENCODER, experiment, without_weights, write_texts
from tests.fleet import Fleet
from tests.runs import Watcher, assert_every_shard_once, execute, new_run, undisturbed


class KillAt(Watcher):
    """A watcher that kills a worker when it has seen so many steps."""

    def __init__(self, fleet: Fleet, step: int) -> None:
        super().__init__()
        self._fleet, self._step = fleet, step

    def on_step(self, event: StepDone) -> None:
        super().on_step(event)
        if len(self.steps) == self._step:
            self._fleet.workers[0].kill()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_an_adapter_on_features_ends_with_the_same_bits_on_any_workers(
    fleet: Fleet, tmp_path: Path
) -> None:
    texts = experiment(write_texts(tmp_path / "texts"))
    expected = undisturbed(fleet.settings, texts)

    fleet.start(1)
    alone = execute(fleet.settings, new_run(fleet.settings, texts))
    fleet.start(1)
    run, watcher = new_run(fleet.settings, texts), KillAt(fleet, 3)
    killed = execute(fleet.settings, run, watcher=watcher)

    assert alone.checkpoint_sha256 == killed.checkpoint_sha256 == expected
    with Database.open(fleet.settings.database_url) as database, database.session() as session:
        recorded = RunRepository(session).get(run.uid).encoders
    identity = get_encoder(ENCODER, kind="text").identity()
    assert recorded == {"text": json.loads(json.dumps(identity))}
    assert_every_shard_once(fleet.settings, run, steps=6, shards=4)


def test_hosts_without_the_features_receive_them_and_compute_none(
    fleet: Fleet, tmp_path: Path
) -> None:
    texts = experiment(write_texts(tmp_path / "texts"))
    expected = undisturbed(fleet.settings, texts)
    (prepared,) = names_in(fleet.settings.data_dir / "prepared")
    bare, other = tmp_path / "bare", tmp_path / "other"
    hosts = [without_weights(bare), {"METAFLEET_DATA_DIR": str(other / "data")}]
    reports = []
    for host in hosts:
        (worker,) = fleet.start(1, environment=host)
        reports.append(execute(fleet.settings, new_run(fleet.settings, texts)))
        received = names_in(Path(host["METAFLEET_DATA_DIR"]) / "received")
        reports.append(execute(fleet.settings, new_run(fleet.settings, texts)))
        worker.stop()  # so that the next host computes all jobs, however fast this one is

    assert {report.checkpoint_sha256 for report in reports} == {expected}
    assert names_in(bare / "data") == names_in(other / "data") == ["received"]
    assert names_in(bare / "data" / "received") == names_in(other / "data" / "received") == received
    (copy,) = received
    for name in names_in(fleet.settings.data_dir / "prepared" / prepared):
        source = fleet.settings.data_dir / "prepared" / prepared / name
        assert (bare / "data" / "received" / copy / name).read_bytes() == source.read_bytes()
    with connect(str(fleet.settings.broker_url)) as client:
        assert client.keys("*:data:*") == []


def test_features_travel_directly_where_the_orchestrator_is_reached(
    fleet: Fleet, tmp_path: Path
) -> None:
    texts = experiment(write_texts(tmp_path / "texts"))
    expected = undisturbed(fleet.settings, texts)
    bare = without_weights(tmp_path / "bare")
    fleet.start(1, environment={**bare, "METAFLEET_HOST_CACHE_DIR": str(tmp_path / "memory")})
    settings = replace(fleet.settings, direct_address="127.0.0.1")
    watcher = Watcher()

    report = execute(settings, new_run(settings, texts), watcher=watcher)

    assert report.checkpoint_sha256 == expected
    assert len(names_in(tmp_path / "bare" / "data" / "received")) == 1
    assert "are not on this host" not in fleet.workers[0].log.read_text()  # nothing was missed
