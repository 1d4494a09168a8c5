"""Waiting for a dead orchestrator's lease, and not for a living one's."""

import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.keys import RunKeys
from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.errors import RunLeasedError
from metafleet.orchestrator.runs.lease import once_free
from tests.redis_server import RedisServer
from tests.runs import run_of

OWNER = "vm:23193/abcd"


@pytest.fixture
def settings(standing_redis: RedisServer, tmp_path: Path) -> Settings:
    environment = {"METAFLEET_HOME": str(tmp_path), "METAFLEET_BROKER_URL": standing_redis.url}
    return Settings.load(environment)


@pytest.fixture
def run() -> RunRecord:
    return replace(run_of("sinusoid-maml"), id=5, uid=uuid.uuid4().hex[:8])


class Taking:
    """Takes a run that has no owner, as an orchestrator does."""

    def __init__(self, redis: RedisServer, run: RunRecord) -> None:
        self._client, self._key = redis.client(), RunKeys(run.uid).lease

    def __call__(self) -> str:
        if self._client.exists(self._key):
            raise RunLeasedError("held")
        return "taken"


def test_the_lease_of_a_dead_owner_is_waited_for_and_reported(
    standing_redis: RedisServer, settings: Settings, run: RunRecord
) -> None:
    told: list[str] = []
    standing_redis.client().set(RunKeys(run.uid).lease, OWNER, px=1200)

    assert once_free(settings, run, Taking(standing_redis, run), told.append) == "taken"
    assert told == [
        "run 5 belongs to vm:23193 for 1 s more; waiting, in case that process died",
    ]


def test_a_living_owner_is_seen_by_what_it_renews(
    standing_redis: RedisServer, settings: Settings, run: RunRecord
) -> None:
    lease = RunKeys(run.uid).lease
    standing_redis.client().set(lease, OWNER, px=5000)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(0.6):
            standing_redis.client().set(lease, OWNER, px=5000)

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(RunLeasedError, match=r"^run 5 is being run by vm:23193; watch it with"):
            once_free(settings, run, Taking(standing_redis, run), lambda text: None)
    finally:
        ended.set()
        renewing.join()
