"""Large values straight from the socket: whole or not at all, and the connection stays usable."""

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from metafleet.contracts.bulk_read import read_values
from metafleet.contracts.connections import connect
from tests.redis_server import RedisServer


class _WithoutSocket:
    """A connection of a redis-py that keeps its socket elsewhere."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        if name == "_sock":
            raise AttributeError(name)
        return getattr(self.connection, name)


@pytest.fixture(params=["socket", "commands"])
def client(
    request: pytest.FixtureRequest, standing_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """Read from the socket, and where a connection shows none, by commands."""
    with connect(standing_redis.url) as client:
        if request.param == "commands":
            pool = client.connection_pool
            take, release = pool.get_connection, pool.release
            monkeypatch.setattr(pool, "get_connection", lambda *_: _WithoutSocket(take()))
            monkeypatch.setattr(pool, "release", lambda found: release(found.connection))
        yield client


def test_values_are_joined_in_order(client: redis.Redis) -> None:
    values = {"bulk:a": os.urandom(3_000_001), "bulk:b": b"", "bulk:c": b"\r\n$3\r\n"}
    for key, value in values.items():
        client.set(key, value, ex=60)

    joined = read_values(client, {key: len(value) for key, value in values.items()})

    assert joined == b"".join(values.values())
    assert client.get("bulk:c") == values["bulk:c"]


@pytest.mark.parametrize("lengths", [{"bulk:gone": 3}, {"bulk:x": 4}, {"bulk:list": 3}])
def test_missing_or_foreign_values_give_nothing(
    client: redis.Redis, lengths: dict[str, int]
) -> None:
    client.set("bulk:x", b"abc", ex=60)
    client.delete("bulk:list")
    client.rpush("bulk:list", b"abc")
    client.expire("bulk:list", 60)

    assert read_values(client, {"bulk:x": 3, **lengths, "bulk:y": 1}) is None
    assert client.get("bulk:x") == b"abc"


def test_a_stale_connection_is_reopened(client: redis.Redis) -> None:
    client.set("bulk:x", b"abc", ex=60)
    with connect_again(client) as other:
        other.client_kill_filter(_type="normal", skipme=True)

    assert read_values(client, {"bulk:x": 3}) == b"abc"


def connect_again(client: redis.Redis) -> redis.Redis:
    facts = client.connection_pool.connection_kwargs
    return redis.Redis(
        host=facts["host"], port=facts["port"], password=facts.get("password"), db=facts["db"]
    )


def test_a_server_that_falls_silent_in_the_middle_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = threading.Thread(target=_answer_half, args=(listener,), daemon=True)
        silent.start()
        with (
            connect(f"redis://127.0.0.1:{port}/0?protocol=2", socket_timeout_s=0.3) as client,
            pytest.raises(redis.TimeoutError),
        ):
            read_values(client, {"key": 10})
        silent.join(10)


def _answer_half(listener: socket.socket) -> None:
    stream, _ = listener.accept()
    with stream:
        while command := stream.recv(65536):
            if b"GET" in command:
                stream.sendall(b"$10\r\nhalf")
            else:
                stream.sendall(b"+OK\r\n" * command.count(b"*"))
