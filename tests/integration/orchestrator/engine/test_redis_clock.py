"""Redis's time, extrapolated from the last request."""

import pytest

from metafleet.contracts.connections import connect
from metafleet.orchestrator.engine.redis_clock import RedisClock
from tests.redis_server import RedisServer


def test_it_is_redis_time_and_asked_for_once(
    standing_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(standing_redis.url) as client:
        clock = RedisClock(client)
        clock.now_us()
        seconds, microseconds = client.time()
        monkeypatch.setattr(client, "time", lambda: pytest.fail("asked again"))

        told_us = clock.now_us()

    assert abs(told_us - (seconds * 1_000_000 + microseconds)) < 500_000
    assert clock.now_us() >= told_us


def test_it_is_asked_for_again_when_it_is_old_or_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FakeRedis:
        asked = 0

        def time(self) -> tuple[int, int]:
            self.asked += 1
            return 1000 * self.asked, 5

    now_s = [100.0]
    monkeypatch.setattr(
        "metafleet.orchestrator.engine.redis_clock.time.monotonic", lambda: now_s[0]
    )
    server = FakeRedis()
    clock = RedisClock(server)  # type: ignore[arg-type]

    assert clock.now_us() == 1_000_000_005
    now_s[0] += 2
    assert clock.now_us() == 1_002_000_005
    clock.forget()
    assert clock.now_us() == 2_000_000_005
    now_s[0] += 60
    assert clock.now_us() == 3_000_000_005
