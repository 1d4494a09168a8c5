"""Presence: which workers are alive by Redis's clock, whatever entries say about themselves."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import WORKERS_INFO, WORKERS_SEEN
from metafleet.contracts.presence import WorkerInfo, announce, list_alive, list_workers, withdraw
from metafleet.workers.presence import PresenceThread
from tests.fleet import wait_until
from tests.redis_server import RedisServer

WORKER = WorkerInfo(
    name="cpu0@host",
    host="host",
    pid=42,
    device="cpu",
    queues=("inner.cpu",),
    protocol=1,
    version="0.1.0",
    fingerprint="torch=2.13.0 threads=1",
)


@pytest.fixture
def client(standing_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(standing_redis.url) as client:
        client.delete(WORKERS_SEEN, WORKERS_INFO)
        yield client


def long_ago(client: redis.Redis, name: str, seconds: int) -> None:
    """Pretend that a worker's last sign of life came ``seconds`` ago."""
    client.zadd(WORKERS_SEEN, {name: client.time()[0] - seconds})


def test_an_announced_worker_is_listed_as_it_is(client: redis.Redis) -> None:
    announce(client, WORKER)

    (found,) = list_workers(client)

    assert replace(found, last_seen_s=0.0) == WORKER
    assert found.is_alive


def test_workers_are_listed_by_name_and_counted_by_queue(client: redis.Redis) -> None:
    announce(client, WORKER)
    announce(client, replace(WORKER, name="gpu0@host", queues=("inner.gpu",)))
    announce(client, replace(WORKER, name="both@host", queues=("inner.cpu", "inner.gpu")))

    assert [w.name for w in list_workers(client)] == ["both@host", "cpu0@host", "gpu0@host"]
    assert [len(list_alive(client, queue)) for queue in ("inner.cpu", "inner.gpu")] == [2, 2]


def test_a_silent_worker_is_listed_but_not_counted(client: redis.Redis) -> None:
    announce(client, WORKER)
    long_ago(client, WORKER.name, 30)

    (found,) = list_workers(client)

    assert 29 <= found.last_seen_s < 40
    assert not found.is_alive
    assert list_alive(client, "inner.cpu") == []


def test_a_worker_silent_for_ten_minutes_is_forgotten(client: redis.Redis) -> None:
    announce(client, WORKER)
    long_ago(client, WORKER.name, 700)

    announce(client, replace(WORKER, name="cpu1@host"))

    assert [w.name for w in list_workers(client)] == ["cpu1@host"]
    assert client.hkeys(WORKERS_INFO) == [b"cpu1@host"]


def test_a_worker_that_withdrew_is_gone_at_once(client: redis.Redis) -> None:
    announce(client, WORKER)

    withdraw(client, WORKER.name)
    withdraw(client, "never@there")

    assert list_workers(client) == []


def test_every_key_has_a_time_to_live(client: redis.Redis) -> None:
    announce(client, WORKER)

    assert client.pttl(WORKERS_SEEN) > 0
    assert client.pttl(WORKERS_INFO) > 0


def test_a_worker_of_a_later_version_is_listed_without_what_is_unknown(
    client: redis.Redis,
) -> None:
    announce(client, WORKER)
    info = json.loads(client.hget(WORKERS_INFO, WORKER.name) or b"")
    client.hset(WORKERS_INFO, WORKER.name, json.dumps({**info, "protocol": 2, "mood": "fine"}))

    (found,) = list_workers(client)

    assert found.protocol == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "{}", '{"queues": null}', b"\xff"])
def test_an_entry_with_invalid_fields_is_not_counted(
    client: redis.Redis, text: str | bytes
) -> None:
    announce(client, WORKER)
    announce(client, replace(WORKER, name="odd@host"))
    client.hset(WORKERS_INFO, "odd@host", text)

    assert [w.name for w in list_workers(client)] == [WORKER.name]


def test_a_presence_thread_says_hello_and_good_bye(
    client: redis.Redis, standing_redis: RedisServer, tmp_path: Path
) -> None:
    beat = tmp_path / "beats" / "cpu0"
    thread = PresenceThread(standing_redis.url, WORKER, beat)

    thread.start()
    wait_until(beat.exists, "the first beat", 10)
    assert len(list_alive(client, "inner.cpu")) == 1
    thread.stop()

    assert list_workers(client) == []
    assert not beat.exists()


def test_a_presence_thread_without_redis_leaves_no_sign_of_health(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.kill()
    beat = tmp_path / "cpu0"
    thread = PresenceThread(redis_server.url, WORKER, beat)

    thread.start()
    thread.stop()

    assert not beat.exists()


def test_a_worker_that_says_nothing_of_processes_has_one(client: redis.Redis) -> None:
    announce(client, replace(WORKER, name="eight", processes=8))
    announce(client, replace(WORKER, name="old"))
    info = json.loads(client.hget(WORKERS_INFO, "old"))  # type: ignore[arg-type]
    del info["processes"]
    client.hset(WORKERS_INFO, "old", json.dumps(info))

    assert {w.name: w.processes for w in list_alive(client, "inner.cpu")} == {"eight": 8, "old": 1}


JUNK = json.dumps({"name": "junk@host"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"\xff@host", JUNK),
        (b"cpu1@host", b"\xff"),
        (b"cpu1@host", "[" * 100_000),
        (b"cpu1@host", "{}" + " " * 100_000),
        (b"cpu1@host", JUNK),
        (b"cpu1@host", json.dumps({"processes": 1e999})),
    ],
    ids=["name", "bytes", "nested", "long", "another name", "infinite"],
)
def test_an_entry_that_is_no_worker_is_reported_once_and_not_counted(
    client: redis.Redis, caplog: pytest.LogCaptureFixture, name: bytes, text: str | bytes
) -> None:
    announce(client, WORKER)
    client.zadd(WORKERS_SEEN, {name: client.time()[0]})
    client.hset(WORKERS_INFO, name, text)

    for _ in range(3):
        assert [worker.name for worker in list_workers(client)] == ["cpu0@host"]

    assert sum("is not counted" in record.message for record in caplog.records) <= 1


def test_an_entry_that_is_no_worker_is_reported_once_although_it_changes(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.zadd(WORKERS_SEEN, {"changing@host": client.time()[0]})
    for n in range(3):
        client.hset(WORKERS_INFO, "changing@host", json.dumps({"idle_s": n}))
        assert list_workers(client) == []

    assert sum("is not counted" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("field", "value"), [("host_id", []), ("queues", "abc"), ("protocol", "3"), ("pid", None)]
)
def test_a_worker_of_other_types_is_not_counted(
    client: redis.Redis, field: str, value: object
) -> None:
    announce(client, WORKER)
    said = json.loads(client.hget(WORKERS_INFO, WORKER.name))
    client.hset(WORKERS_INFO, WORKER.name, json.dumps(said | {field: value}))

    assert list_workers(client) == []


def test_a_worker_seen_in_the_future_is_not_counted_and_is_forgotten(client: redis.Redis) -> None:
    announce(client, replace(WORKER, name="cpu1@host"))
    long_ago(client, "cpu1@host", -86_400)
    client.zadd(WORKERS_SEEN, {"cpu2@host": float("inf")})

    assert list_workers(client) == []
    announce(client, WORKER)
    assert client.zrange(WORKERS_SEEN, 0, -1) == [b"cpu0@host"]


def test_another_type_in_place_of_the_list_of_workers_goes_with_the_next_beat(
    client: redis.Redis,
) -> None:
    client.set(WORKERS_SEEN, "junk")
    client.rpush(WORKERS_INFO, "junk")

    announce(client, WORKER)

    assert [worker.name for worker in list_workers(client)] == ["cpu0@host"]
