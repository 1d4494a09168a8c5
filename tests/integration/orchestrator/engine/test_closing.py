"""A dispatcher that cannot begin, and a step whose blobs cannot be deleted."""

import itertools
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.ledger import RunLedger
from metafleet.contracts.settings import Settings
from metafleet.errors import BrokerUnavailableError, RunLeasedError
from metafleet.orchestrator.engine.dispatchers import open_dispatcher
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.transfer import Transfer
from tests.messages import make_request, new_uid
from tests.redis_server import RedisServer
from tests.runs import config


@pytest.fixture
def settings(standing_redis: RedisServer, tmp_path: Path) -> Settings:
    url = standing_redis.url
    loaded = Settings.load({"METAFLEET_HOME": str(tmp_path)})
    memory = tmp_path / "memory"
    return replace(loaded, broker_url=url, blobs_url=url, signing_key="key", host_cache_dir=memory)


def open_fleet_dispatcher(settings: Settings, uid: str) -> FleetDispatcher:
    epochs = itertools.count(1)
    opened = open_dispatcher(
        RunContext(settings, uid, in_process=False, notify=lambda _text: None),
        config(),
        next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
    )
    assert isinstance(opened, FleetDispatcher)
    return opened


def test_a_run_that_is_another_s_leaves_neither_port_nor_memory_taken(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    settings, uid = replace(settings, direct_address=f"127.0.0.1:{port}"), new_uid()
    with connect(str(settings.broker_url)) as client:
        RunLedger(client, uid, "the dead").claim(lease_ms=10_000)

        with pytest.raises(RunLeasedError):
            open_fleet_dispatcher(settings, uid)

        # as on ``runs resume`` of a killed orchestrator's run, once its lease has run out
        client.delete(RunKeys(uid).lease)
    assert not list(settings.host_cache_dir.glob("run-*"))
    socket.create_server(("127.0.0.1", port)).close()


def test_a_store_that_is_away_as_a_step_closes_does_not_end_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Transfer, step: object) -> None:
        raise BrokerUnavailableError("the store is away")

    uid = new_uid()
    dispatcher = open_fleet_dispatcher(settings, uid)
    monkeypatch.setattr(Transfer, "forget", away)
    try:
        dispatcher.drop(dispatcher.begin(make_request()))

        with connect(str(settings.broker_url)) as client:
            assert client.get(RunKeys(uid).closed("train", epoch=1)) == b"7"
    finally:
        dispatcher.close()
