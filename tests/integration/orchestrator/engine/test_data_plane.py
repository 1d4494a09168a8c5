"""However tensors travel, the run ends with the same bits."""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.settings import Settings
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.step import StepOutcome
from metafleet.orchestrator.engine.tree_reduction import TreeReduction
from tests.fleet import Fleet, open_fleet, wait_until
from tests.redis_server import RedisServer
from tests.runs import config, execute, new_run, read_jobs, undisturbed

SHORT: dict[str, Any] = {
    "outer": {"steps": 3},
    "validation": {"every": 0},
    "test": {"episodes": 2, "baselines": False},
}


def short(**engine: Any) -> ExperimentConfig:
    return config(**SHORT, engine=engine)


@pytest.fixture(scope="module")
def stores() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A broker, and a Redis for blobs alone."""
    servers = RedisServer(), RedisServer()
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, stores: tuple[RedisServer, RedisServer]
) -> Iterator[Fleet]:
    broker, blobs = stores
    with open_fleet(tmp_path_factory.mktemp("plane") / "home", broker.url) as opened:
        fleet = Fleet(replace(opened.settings, blobs_url=blobs.url))
        try:
            fleet.start(2)
            yield fleet
        finally:
            fleet.stop()


@pytest.fixture(scope="module")
def expected(fleet: Fleet) -> str:
    return undisturbed(fleet.settings, short())


def calls(server: RedisServer, command: str) -> int:
    with server.client() as client:
        stats = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """The orchestrator on another host than the workers."""
    return replace(settings, host_cache_dir=tmp_path / "memory")


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "downloads"]


def test_on_one_host_no_tensor_goes_through_the_store(
    fleet: Fleet, stores: tuple[RedisServer, RedisServer], expected: str
) -> None:
    run = new_run(fleet.settings, short())
    before = calls(stores[1], "set")

    assert execute(fleet.settings, run).checkpoint_sha256 == expected

    assert calls(stores[1], "set") == before
    assert all(job.payload_bytes > 0 for job in read_jobs(fleet.settings, run))
    assert files(fleet.settings.host_cache_dir) == []


def test_between_hosts_the_store_is_read_once_a_state(
    fleet: Fleet, stores: tuple[RedisServer, RedisServer], expected: str, tmp_path: Path
) -> None:
    settings = elsewhere(fleet.settings, tmp_path)
    before = calls(stores[1], "get")
    run = new_run(settings, short(numerics="relaxed"))  # strict, shards are computed twice

    assert execute(settings, run).checkpoint_sha256 == expected

    sums, states = 3 * 4, 4  # three steps of four shards; their states, and the tested one
    assert calls(stores[1], "get") - before == sums + states
    with stores[1].client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("apart", [False, True])
def test_sums_added_up_by_workers_have_the_same_bits(
    fleet: Fleet, expected: str, tmp_path: Path, apart: bool
) -> None:
    settings = elsewhere(fleet.settings, tmp_path) if apart else fleet.settings
    run = new_run(settings, short(reduce_fan_in=2))

    assert execute(settings, run).checkpoint_sha256 == expected

    assert [job.shard for job in read_jobs(settings, run)] == [0, 1, 2, 3] * 3


def test_sums_lost_before_they_are_added_up_are_computed_again(
    fleet: Fleet, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_reduction, lost = TreeReduction.run, []

    def lose_once(self: TreeReduction, step: OpenStep, outcome: StepOutcome) -> StepOutcome:
        if not lost:
            lost.append(step.name)
            step.collector.discard(ref.key for ref in step.collector.deferred)
        return run_reduction(self, step, outcome)

    monkeypatch.setattr(TreeReduction, "run", lose_once)
    run = new_run(fleet.settings, short(reduce_fan_in=2))

    assert execute(fleet.settings, run).checkpoint_sha256 == expected

    assert lost == ["train step 1"]
    assert [job.shard for job in read_jobs(fleet.settings, run)] == [0, 1, 2, 3] * 3


def test_rounded_tensors_give_the_same_bits_in_every_fleet(
    fleet: Fleet, expected: str, tmp_path: Path
) -> None:
    experiment = short(wire_dtype="bfloat16")
    apart = elsewhere(fleet.settings, tmp_path)

    rounded = undisturbed(fleet.settings, experiment)

    assert rounded != expected
    for settings, engine in [
        (fleet.settings, {}),
        (apart, {}),
        (apart, {"reduce_fan_in": 2}),
    ]:
        run = new_run(settings, short(wire_dtype="bfloat16", **engine))
        assert execute(settings, run).checkpoint_sha256 == rounded


def test_workers_of_another_host_that_came_unseen_get_the_state_after_all(
    fleet: Fleet, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = elsewhere(fleet.settings, tmp_path)
    here: list[frozenset[str]] = []

    def blind(self: FleetDispatcher) -> frozenset[str]:
        return here[0]

    monkeypatch.setattr("metafleet.orchestrator.engine.ownership.Ownership.hosts", property(blind))
    here.append(frozenset({HostCache(settings.host_cache_dir).host_id}))

    assert execute(settings, new_run(settings, short())).checkpoint_sha256 == expected


def test_workers_killed_with_sums_to_add_up_in_hand_are_followed_by_another(
    fleet: Fleet, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, n_groups = FleetDispatcher._send, 2
    victims = fleet.start(2)[:1] + fleet.workers[:2]  # of four, so that one has a group in hand
    survivor = fleet.workers[-1]

    def send_to_victims(self: FleetDispatcher, step: OpenStep, placed: Mapping[int, str]) -> None:
        if step.request.kind != "reduce" or not victims:
            return send(self, step, placed)
        assert len(placed) == n_groups
        wait_until(lambda: fleet.n_waiting() == len(victims) + 1, "idle workers")
        for worker in [*victims, survivor]:
            worker.send(signal.SIGSTOP)
        send(self, step, placed)  # Redis hands each message to a worker that waits, frozen or not
        wait_until(lambda: self._client.llen(fleet.queue_list) == 0, "messages taken")
        while victims:
            victims.pop().kill()
        survivor.send(signal.SIGCONT)
        return None

    monkeypatch.setattr(FleetDispatcher, "_send", send_to_victims)

    report = execute(fleet.settings, new_run(fleet.settings, short(reduce_fan_in=2)))

    assert victims == []
    assert report.checkpoint_sha256 == expected
