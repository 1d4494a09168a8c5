"""Tensors directly between hosts: the same bits; the store serves only when the link is cut."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from metafleet.contracts.codec import encode
from metafleet.contracts.direct_client import DirectClient
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from metafleet.orchestrator.engine.direct_server import DirectServer
from tests.certificates import CertificateFiles, make_certificate
from tests.fleet import Fleet, open_fleet, wait_until
from tests.messages import make_sums
from tests.redis_server import RedisServer
from tests.runs import Watcher, config, execute, new_run, undisturbed
from tests.tcp_proxy import TcpProxy

KEY = "test-key"
EXPERIMENT = config(
    outer={"steps": 5}, validation={"every": 2}, test={"episodes": 2, "baselines": False}
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles
) -> Iterator[tuple[Fleet, RedisServer]]:
    """Two workers that trust the test's authority, and a Redis for blobs alone."""
    broker, blobs = RedisServer(), RedisServer()
    try:
        with open_fleet(tmp_path_factory.mktemp("direct") / "home", broker.url) as opened:
            fleet = Fleet(replace(opened.settings, blobs_url=blobs.url, direct_ca=certificate.ca))
            try:
                fleet.start(2)
                yield fleet, blobs
            finally:
                fleet.stop()
    finally:
        broker.stop()
        blobs.stop()


def elsewhere(settings: Settings, tmp_path: Path, address: str = "127.0.0.1") -> Settings:
    """The orchestrator on another host than the workers."""
    return replace(settings, host_cache_dir=tmp_path / "memory", direct_address=address)


def commands(server: RedisServer, name: str) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


def port_of(address: str) -> int:
    port = urlsplit(address).port
    assert port is not None
    return port


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
def test_tensors_go_directly_and_the_store_sees_none(
    fleet: tuple[Fleet, RedisServer],
    certificate: CertificateFiles,
    tmp_path: Path,
    is_encrypted: bool,
) -> None:
    settings, blobs = elsewhere(fleet[0].settings, tmp_path), fleet[1]
    if is_encrypted:
        settings = replace(settings, direct_cert=certificate.cert, direct_cert_key=certificate.key)
    before = commands(blobs, "set")

    report = execute(settings, new_run(settings, EXPERIMENT))

    assert report.checkpoint_sha256 == undisturbed(settings, EXPERIMENT)
    assert commands(blobs, "set") == before


@pytest.mark.parametrize("fan_in", [0, 2])
def test_rounded_or_added_up_by_workers_the_bits_are_the_same(
    fleet: tuple[Fleet, RedisServer], tmp_path: Path, fan_in: int
) -> None:
    settings = elsewhere(fleet[0].settings, tmp_path)
    experiment = config(
        outer={"steps": 3},
        validation={"every": 0},
        test={"episodes": 2, "baselines": False},
        engine={"wire_dtype": "bfloat16", "reduce_fan_in": fan_in},
    )

    report = execute(settings, new_run(settings, experiment))

    assert report.checkpoint_sha256 == undisturbed(settings, experiment)


def test_workers_that_do_not_reach_the_orchestrator_use_the_store(
    fleet: tuple[Fleet, RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, blobs = elsewhere(fleet[0].settings, tmp_path), fleet[1]
    before = commands(blobs, "set")
    init = DirectServer.__init__

    def unreachable(self: DirectServer, address: str, signing_key: str, **options: Any) -> None:
        init(self, address, signing_key, **options)
        self.address = "http://127.0.0.1:1"  # as a name that means another host there

    monkeypatch.setattr(DirectServer, "__init__", unreachable)

    report = execute(settings, new_run(settings, EXPERIMENT))

    assert report.checkpoint_sha256 == undisturbed(settings, EXPERIMENT)
    assert commands(blobs, "set") > before


def test_a_connection_that_is_cut_in_the_middle_of_a_run_costs_no_bit(
    fleet: tuple[Fleet, RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = elsewhere(fleet[0].settings, tmp_path)
    proxies: list[TcpProxy] = []
    init = DirectServer.__init__

    def behind_a_proxy(self: DirectServer, address: str, signing_key: str, **options: Any) -> None:
        init(self, address, signing_key, **options)
        proxies.append(TcpProxy(port_of(self.address)))
        self.address = f"http://127.0.0.1:{proxies[-1].port}"

    class Cutting(Watcher):
        def on_step(self, event: object) -> None:
            proxies[-1].cut()

    monkeypatch.setattr(DirectServer, "__init__", behind_a_proxy)
    try:
        report = execute(settings, new_run(settings, EXPERIMENT), watcher=Cutting())
    finally:
        for proxy in proxies:
            proxy.close()

    assert report.checkpoint_sha256 == undisturbed(settings, EXPERIMENT)


class TestServer:
    @pytest.fixture
    def server(self) -> Iterator[DirectServer]:
        server = DirectServer("127.0.0.1", KEY)
        yield server
        server.close()

    def test_what_is_offered_is_fetched_with_its_digest(self, server: DirectServer) -> None:
        encoded = encode(make_sums(3))
        server.offer("state", encoded)
        route = DirectClient(KEY).to(server.address)
        assert route is not None

        found = route.fetch("state", encoded.n_bytes)

        assert found is not None
        assert (bytes(found[0]), found[1]) == (encoded.join(), encoded.digest())
        assert route.fetch("state", encoded.n_bytes + 1) is None
        server.withdraw("state")
        assert route.fetch("state", encoded.n_bytes) is None

    def test_what_is_expected_is_taken_once(self, server: DirectServer) -> None:
        encoded = encode(make_sums(4))
        server.expect("sum", encoded.n_bytes)
        route = DirectClient(KEY).to(server.address)
        assert route is not None

        assert route.give("sum", encoded) == encoded.digest()
        assert route.give("sum", encoded) is None
        assert server.fetch("sum", encoded.n_bytes + 1) is None
        found = server.fetch("sum", encoded.n_bytes)

        assert found is not None
        assert (bytes(found[0]), found[1]) == (encoded.join(), encoded.digest())
        assert server.fetch("sum", encoded.n_bytes) is None
        assert server.forget("sum")
        assert not server.forget("sum")

    def test_what_is_not_expected_is_refused_before_it_is_sent(
        self, server: DirectServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded = encode(make_sums(5))
        server.expect("sum", encoded.n_bytes - 1)
        server.expect("forgotten", encoded.n_bytes)
        server.forget("forgotten")
        route = DirectClient(KEY).to(server.address)
        assert route is not None

        monkeypatch.setattr(
            "metafleet.contracts.direct_client._hashed", None
        )  # what is sent goes through it

        assert [route.give(key, encoded) for key in ("sum", "other", "forgotten")] == [None] * 3

    def test_a_caller_without_the_key_gets_nothing(self, server: DirectServer) -> None:
        encoded = encode(make_sums(6))
        server.offer("state", encoded)
        stranger = DirectClient("another-key")
        route = stranger.to(server.address)
        assert route is not None

        assert route.fetch("state", encoded.n_bytes) is None
        assert stranger.to(server.address) is None, "an address that refused us is avoided a while"
        assert DirectClient("").to(server.address) is None

    def test_a_server_that_does_not_know_the_key_is_given_nothing(self) -> None:
        impostor = DirectServer("127.0.0.1", "another-key")
        encoded = encode(make_sums(7))
        impostor.expect("sum", encoded.n_bytes)
        try:
            route = DirectClient(KEY).to(impostor.address)
            assert route is not None
            assert route.give("sum", encoded) is None
            assert impostor.fetch("sum", encoded.n_bytes) is None
        finally:
            impostor.close()

    def test_closing_hangs_up(self) -> None:
        server = DirectServer("127.0.0.1", KEY)
        encoded = encode(make_sums(9))
        server.offer("state", encoded)
        client = DirectClient(KEY)
        route = client.to(server.address)
        assert route is not None and route.fetch("state", encoded.n_bytes) is not None

        server.close()

        assert route.fetch("state", encoded.n_bytes) is None
        wait_until(lambda: client.to(server.address) is None, "the address avoided")

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("", "expected the name or address"),
            ("host:x", "expected the name or address"),
            ("127.0.0.1:70000", "expected the name or address"),
            ("127.0.0.1:\N{SUPERSCRIPT TWO}", "expected the name or address"),
            ("192.0.2.1", "no address of this host"),
            ("no-such-host.invalid", "no address of this host"),
        ],
    )
    def test_an_address_of_another_host_is_refused(self, address: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            DirectServer(address, KEY)

    def test_a_port_that_is_taken_is_told_apart(self, server: DirectServer) -> None:
        with pytest.raises(OSError, match="in use"):
            DirectServer(f"127.0.0.1:{port_of(server.address)}", KEY)
