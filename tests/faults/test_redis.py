"""A Redis that loses, hangs, restarts or is full."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.errors import MetafleetError
from tests.fleet import Fleet, open_fleet, wait_until
from tests.redis_server import RedisServer
from tests.running import ROWS, Row, Running
from tests.runs import config, read_run


def test_redis_killed_and_back_empty(
    fleet: Fleet, redis_server: RedisServer, expected: str
) -> None:
    fleet.start(2)
    running = Running(fleet.settings)

    running.disturb(lambda: (redis_server.kill(), redis_server.start()))

    running.assert_undisturbed(
        expected, "Redis killed, back empty, mid-step", "new epoch, everything sent again"
    )
    assert read_run(fleet.settings, running.run).epoch > 1


def test_redis_hung_for_ten_seconds(fleet: Fleet, redis_server: RedisServer, expected: str) -> None:
    fleet.start(2)
    running = Running(fleet.settings)

    running.disturb(redis_server.freeze)
    wait_until(lambda: running.watcher.notices, "the notice that Redis hangs", 40)
    redis_server.thaw()

    assert "does not answer" in running.watcher.notices[0]
    running.assert_undisturbed(expected, "Redis hung until a time-out", "said so, waited, went on")


def test_every_queued_message_lost(fleet: Fleet, redis_server: RedisServer, expected: str) -> None:
    fleet.start(2)
    running = Running(fleet.settings)

    def lose() -> None:
        with redis_server.client() as client:
            wait_until(lambda: client.delete(fleet.queue_list), "a queued message")

    running.disturb(lose)

    running.assert_undisturbed(expected, "queued messages deleted", "found lost, sent again")


def test_every_wake_up_lost(fleet: Fleet, redis_server: RedisServer, expected: str) -> None:
    fleet.start(2)
    running = Running(fleet.settings)

    def lose() -> None:
        deadline = time.monotonic() + 2
        with redis_server.client() as client:
            while time.monotonic() < deadline:
                for key in client.scan_iter("*:replies"):
                    client.delete(key)

    running.disturb(lose)

    running.assert_undisturbed(expected, "replies deleted", "results found in the ledger")


def test_redis_out_of_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    big = config(model={"hidden": [700, 700]}, outer={"steps": 2})
    try:
        with open_fleet(tmp_path_factory.mktemp("full") / "home", server.url) as fleet:
            # without memory to share, tensors go through Redis
            settings = replace(fleet.settings, host_cache_dir=Path("/proc/none"))
            running = Running(settings, big)
            with pytest.raises(MetafleetError, match=r"out of memory.* bytes"):
                running.result(60)
            assert read_run(fleet.settings, running.run).status.value == "failed"
    finally:
        server.stop()
    ROWS.append(Row("Redis out of memory", "stopped, naming key and size", None, None))
