"""A real Redis, a database, and the sum of an undisturbed step."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from metafleet.contracts.connections import connect
from metafleet.db.engine import Database
from metafleet.params import digest
from tests.integration.orchestrator.engine.open_step.bench import Bench
from tests.redis_server import RedisServer


@pytest.fixture
def client(standing_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(standing_redis.url) as client:
        yield client


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/metafleet.db") as database:
        yield database


@pytest.fixture
def undisturbed(client: redis.Redis) -> str:
    bench = Bench(client)
    for shard in (3, 1, 0, 2):
        bench.answer(shard)
    assert bench.take_in() == []
    return digest(bench.step.outcome(2).sums)
