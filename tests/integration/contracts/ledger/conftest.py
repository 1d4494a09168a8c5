"""A run that is owned, on a real Redis."""

from collections.abc import Iterator

import pytest
import redis

from metafleet.contracts.connections import connect
from metafleet.contracts.ledger import RunLedger
from tests.integration.contracts.ledger.desk import LEASE_MS, Desk
from tests.messages import new_uid
from tests.redis_server import RedisServer


@pytest.fixture
def client(standing_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(standing_redis.url) as client:
        yield client


@pytest.fixture
def uid() -> str:
    return new_uid()


@pytest.fixture
def owner(client: redis.Redis, uid: str) -> RunLedger:
    """An orchestrator that owns the run under epoch 1."""
    ledger = RunLedger(client, uid, "owner")
    assert ledger.claim(lease_ms=LEASE_MS).status == "ok"
    assert ledger.take_over(1, lease_ms=LEASE_MS).status == "ok"
    return ledger


@pytest.fixture
def desk(client: redis.Redis, uid: str, owner: RunLedger) -> Desk:
    return Desk(client, uid, owner)
