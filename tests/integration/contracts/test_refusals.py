"""Refusals of a real server, and their messages."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from metafleet.contracts.connections import Client, connect, redis_errors
from metafleet.contracts.ledger import RunLedger
from metafleet.errors import BrokerUnavailableError, ConfigError, ForeignDataError
from tests.fleet import wait_until
from tests.redis_server import RedisServer

NOWHERE = ("127.0.0.1", "1")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer("--busy-reply-threshold", "20")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(server: RedisServer) -> Iterator[Client]:
    with connect(server.url) as client:
        yield client
        client.replicaof("NO", "ONE")
        client.config_set("replica-serve-stale-data", "yes")
        client.config_set("min-replicas-to-write", 0)
        client.flushall()


@contextmanager
def told(url: str, expected: type[Exception], words: str) -> Iterator[None]:
    with pytest.raises(expected, match=words), redis_errors(url):
        yield


def write(client: Client) -> object:
    return client.set("mf:x", 1)


def write_by_script(client: Client) -> object:
    return RunLedger(client, "run", "owner").claim(lease_ms=1000)


def write_in_a_pipeline(client: Client) -> object:
    pipeline = client.pipeline(transaction=False)
    pipeline.blpop(["mf:x"], timeout=1)
    return pipeline.execute()


def write_in_a_transaction(client: Client) -> object:
    return client.pipeline(transaction=True).set("mf:x", 1).set("mf:y", 2).execute()


WRITES = [write, write_by_script, write_in_a_pipeline, write_in_a_transaction]


@pytest.mark.parametrize("call", WRITES)
def test_a_replica_is_waited_for(
    server: RedisServer, client: Client, call: Callable[[Client], object]
) -> None:
    client.replicaof(*NOWHERE)

    with told(server.url, BrokerUnavailableError, r"is a replica and .*READONLY"):
        call(client)


def test_a_replica_without_its_primary_is_waited_for(server: RedisServer, client: Client) -> None:
    client.replicaof(*NOWHERE)
    client.config_set("replica-serve-stale-data", "no")

    with told(server.url, BrokerUnavailableError, r"lost its primary"):
        client.get("mf:x")


@pytest.mark.parametrize("call", WRITES)
def test_too_few_replicas_are_waited_for(
    server: RedisServer, client: Client, call: Callable[[Client], object]
) -> None:
    client.config_set("min-replicas-to-write", 1)

    with told(server.url, BrokerUnavailableError, r"fewer replicas .*NOREPLICAS"):
        call(client)


def test_a_script_of_somebody_s_is_waited_for(server: RedisServer, client: Client) -> None:
    def loop() -> None:
        with connect(server.url) as other, pytest.raises(redis.ResponseError):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for call in WRITES:
            with pytest.raises(BrokerUnavailableError, match="SCRIPT KILL") as caught:
                while True:  # until the server takes it for slow
                    with redis_errors(server.url):
                        call(client)
            assert "BUSY" in str(caught.value)
    finally:
        client.script_kill()
        thread.join()


def test_a_wait_that_is_broken_off_is_made_again(server: RedisServer, client: Client) -> None:
    outcome: list[BaseException] = []

    def wait() -> None:
        with connect(server.url, socket_timeout_s=20.0) as other:
            pipeline = other.pipeline(transaction=False)
            pipeline.blpop(["mf:x"], timeout=15)
            try:
                with redis_errors(server.url):
                    pipeline.execute()
            except BrokerUnavailableError as error:
                outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()

    def waiting() -> list[str]:
        return [c["id"] for c in client.client_list() if "b" in c["flags"]]

    wait_until(waiting, "the other client to wait")
    client.client_unblock(int(waiting()[0]), error=True)
    thread.join()

    assert "broke a wait off" in str(outcome[0])


def test_a_transaction_given_up_is_made_again(server: RedisServer) -> None:
    with connect(server.url) as client, client.client() as one:
        one.execute_command("MULTI")
        with pytest.raises(redis.ResponseError):
            one.execute_command("SET", "mf:x")

        with told(server.url, BrokerUnavailableError, r"EXECABORT"):
            one.execute_command("EXEC")


def test_a_forbidden_command_says_what_to_allow(server: RedisServer, client: Client) -> None:
    client.acl_setuser("some", enabled=True, passwords=["+pw"], keys=["mf:*"], commands=["+get"])
    url = server.url.replace("://:redis-words@", "://some:pw@")

    with connect(url) as limited:
        for call in WRITES:
            with told(url, ConfigError, r"NOPERM.*allow it all commands"):
                call(limited)


def test_another_type_under_our_key_is_said_to_be(server: RedisServer, client: Client) -> None:
    client.lpush("mf:x", "junk")

    with (
        pytest.raises(ForeignDataError, match=r"what is not ours.*WRONGTYPE"),
        redis_errors(server.url),
    ):
        client.get("mf:x")


def test_a_cluster_without_its_nodes_is_waited_for() -> None:
    # its bus would take the port 10,000 above the server's, which there may not be
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bus_port = probe.getsockname()[1]
    server = RedisServer("--cluster-enabled", "yes", "--cluster-port", str(bus_port))
    try:
        with connect(server.url) as client:
            for call in WRITES:
                with told(server.url, BrokerUnavailableError, r"a cluster that is down"):
                    call(client)
    finally:
        server.stop()


def test_a_server_that_cannot_save_is_waited_for() -> None:
    server = RedisServer("--dir", "/proc/self")
    try:
        with connect(server.url) as client:
            client.config_set("save", "3600 1000")
            client.bgsave()
            saved = lambda: client.info("persistence")["rdb_last_bgsave_status"]  # noqa: E731
            wait_until(lambda: saved() == "err", "the saving to fail")

            for call in WRITES:
                with told(server.url, BrokerUnavailableError, r"make room on its disk"):
                    call(client)
    finally:
        server.stop()


def test_a_connection_to_a_demoted_server_is_made_again(
    server: RedisServer, client: Client
) -> None:
    before = client.client_id()
    client.replicaof(*NOWHERE)

    with pytest.raises(redis.exceptions.ReadOnlyError):
        client.set("mf:x", 1)

    assert client.client_id() != before
