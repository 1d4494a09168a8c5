"""Who calls the server of direct transfers, and what that may cost it."""

import contextlib
import errno
import http.client
import itertools
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from metafleet.contracts.codec import encode
from metafleet.contracts.direct import PROOF_HEADER, authorization, proof, state_target, sum_target
from metafleet.contracts.direct_client import DirectClient
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import BlobRef
from metafleet.errors import ConfigError, DigestError
from metafleet.orchestrator.engine import direct_app
from metafleet.orchestrator.engine.direct_server import DirectServer, open_tls
from metafleet.orchestrator.web import server as web_server
from tests.certificates import make_certificate
from tests.fleet import wait_until
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_sums
from tests.tcp_proxy import TcpProxy

KEY = "test-key"
SUM = encode(make_sums(2))


@pytest.fixture
def server() -> Iterator[DirectServer]:
    opened = DirectServer("127.0.0.1", KEY)
    yield opened
    opened.close()


def fetches(server: DirectServer) -> bool:
    encoded = encode(make_sums(1))
    server.offer("a state", encoded)
    found = DirectClient(KEY).fetch(server.address, "a state", encoded.n_bytes)
    return found is not None and found[1] == encoded.digest()


def call(server: DirectServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=30)


def wait_for_end(stream: socket.socket) -> None:
    """Read until the other end hangs up; a time-out fails the test."""
    with contextlib.suppress(ConnectionResetError):
        while stream.recv(2**16):
            pass


def port_of(server: DirectServer) -> int:
    port = urlsplit(server.address).port
    assert port is not None
    return port


def request(
    server: DirectServer, method: str, target: str, headers: dict[str, str], body: Any = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=30)
    connection.request(method, target, body, headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_a_moment_without_room_for_files_is_not_the_end_of_all_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accept, calls = socket.socket.accept, itertools.count()

    def short(listener: socket.socket) -> Any:
        if next(calls) == 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", short)
    server = DirectServer("127.0.0.1", KEY)
    try:
        assert fetches(server)
    finally:
        server.close()


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
def test_a_stranger_who_says_a_byte_now_and_then_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_encrypted: bool
) -> None:
    monkeypatch.setattr(web_server, "STRANGER_S", 1)
    files = make_certificate(tmp_path)
    tls = open_tls(files.cert, files.key) if is_encrypted else None
    # of a greeting or, encrypted, of a record of so many bytes; the whole of neither
    words = b"\x16\x03\x01\x02\x00" if is_encrypted else b"GET /states/1/key HTTP/1.1\r\n"
    server = DirectServer("127.0.0.1", KEY, tls=tls)
    n_said, never = 0, threading.Event()
    try:
        with call(server) as stranger, pytest.raises(OSError):
            for byte in words + bytes(50 - len(words)):
                stranger.sendall(bytes([byte]))
                n_said += 1
                never.wait(0.1)
    finally:
        server.close()
    assert n_said < 50


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
def test_silent_strangers_do_not_keep_workers_out_for_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_encrypted: bool
) -> None:
    monkeypatch.setattr(web_server, "STRANGER_S", 1)
    files = make_certificate(tmp_path)
    tls = open_tls(files.cert, files.key) if is_encrypted else None
    server = DirectServer("127.0.0.1", KEY, tls=tls)
    strangers = [call(server) for _ in range(web_server.MOST_STRANGERS + 1)]
    server.offer("state", SUM)
    client = DirectClient(KEY, ca_file=files.ca)
    try:
        # a TLS handshake has the time of a connection attempt, after which the store is used
        monkeypatch.setattr("metafleet.contracts.direct_client._CONNECT_TIMEOUT_S", 20.0)
        assert client.fetch(server.address, "state", SUM.n_bytes) is not None
    finally:
        for stranger in strangers:
            stranger.close()
        server.close()


def test_a_greeting_without_end_is_hung_up_on(server: DirectServer) -> None:
    line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    with call(server) as stranger, pytest.raises(OSError):
        stranger.sendall(b"GET /states/1/key HTTP/1.1\r\n")
        for _ in range(100_000):
            stranger.sendall(line)

    assert fetches(server)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer é"},
        {"Authorization": authorization("another key", "GET", state_target("state", SUM.n_bytes))},
        {"Authorization": authorization(KEY, "GET", state_target("another", SUM.n_bytes))},
        {"Authorization": authorization(KEY, "HEAD", state_target("state", SUM.n_bytes))},
    ],
    ids=["none", "empty", "no-ascii", "another-key", "another-blob", "another-method"],
)
def test_a_caller_without_the_right_token_gets_nothing(
    server: DirectServer, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    server.offer("state", SUM)

    answer = request(server, "GET", state_target("state", SUM.n_bytes), headers)

    assert (answer.status, answer.headers["Connection"]) == (401, "close")
    assert PROOF_HEADER not in answer.headers
    assert [record.getMessage() for record in caplog.records] == [
        "a caller at 127.0.0.1 does not know the signing key: hung up"
    ]


def test_a_caller_that_comes_again_and_again_does_not_fill_the_log(
    server: DirectServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(12):
        assert request(server, "GET", state_target("state", 1), {}).status == 401

    said = "a caller at 127.0.0.1 does not know the signing key: hung up"
    assert [r.getMessage() for r in caplog.records] == [said, f"{said}, 10 times by now"]


def test_no_token_is_ever_logged(server: DirectServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.offer("state", SUM)
    target = state_target("state", SUM.n_bytes)
    token = authorization(KEY, "GET", target)

    assert request(server, "GET", target, {"Authorization": token}).status == 200
    assert request(server, "HEAD", target, {"Authorization": token}).status == 401

    assert token.removeprefix("Bearer ") not in caplog.text
    assert proof(KEY, "GET", target) not in caplog.text


@pytest.mark.parametrize("promised", [SUM.n_bytes, SUM.n_bytes + 1])
def test_a_sum_of_another_length_than_promised_is_refused(
    server: DirectServer, promised: int
) -> None:
    server.expect("sum", SUM.n_bytes)
    target = sum_target("sum", promised)
    headers = {"Authorization": authorization(KEY, "PUT", target)}

    answer = request(server, "PUT", target, headers, SUM.join() + b"more")

    assert answer.status == 404
    assert answer.headers[PROOF_HEADER] == proof(KEY, "PUT", target)
    assert server.is_expected("sum", SUM.n_bytes)
    assert server.fetch("sum", SUM.n_bytes) is None


def test_no_memory_is_taken_for_what_is_not_expected(
    server: DirectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    receive = direct_app._receive

    async def noting(request: Any, n_bytes: int) -> Any:
        taken.append(n_bytes)
        return await receive(request, n_bytes)

    monkeypatch.setattr(direct_app, "_receive", noting)
    server.expect("sum", SUM.n_bytes)
    target = sum_target("sum", 2**60)
    headers = {"Authorization": authorization(KEY, "PUT", target), "Content-Length": str(2**60)}

    assert request(server, "PUT", target, headers).status == 404
    assert DirectClient(KEY).give(server.address, "sum", SUM) == SUM.digest()
    assert taken == [SUM.n_bytes]


def test_a_worker_that_falls_silent_in_the_middle_of_a_sum_is_hung_up_on(
    server: DirectServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(direct_app, "TIMEOUT_S", 0.5)
    server.expect("sum", SUM.n_bytes)
    target = sum_target("sum", SUM.n_bytes)
    head = (
        f"PUT {target} HTTP/1.1\r\nHost: here\r\nContent-Length: {SUM.n_bytes}\r\n"
        f"Authorization: {authorization(KEY, 'PUT', target)}\r\n\r\n"
    )
    with call(server) as stream:
        stream.sendall(head.encode() + SUM.join()[:-1])
        wait_for_end(stream)

    assert server.fetch("sum", SUM.n_bytes) is None
    assert DirectClient(KEY).give(server.address, "sum", SUM) == SUM.digest()
    assert not caplog.records


def test_a_worker_that_stops_reading_a_state_is_hung_up_on(
    server: DirectServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(direct_app, "TIMEOUT_S", 0.5)
    large = encode({"weight": torch.randn(2**22)})
    server.offer("state", large)
    target = state_target("state", large.n_bytes)
    token = authorization(KEY, "GET", target)
    with call(server) as stream:
        stream.sendall(f"GET {target} HTTP/1.1\r\nAuthorization: {token}\r\n\r\n".encode())
        wait_until(lambda: not server._server._server.server_state.connections, "hung up")

    assert not caplog.records


def test_a_worker_that_goes_in_the_middle_of_a_sum_leaves_no_trace(
    server: DirectServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.expect("sum", SUM.n_bytes)
    target = sum_target("sum", SUM.n_bytes)
    with call(server) as stream:
        stream.sendall(
            f"PUT {target} HTTP/1.1\r\nContent-Length: {SUM.n_bytes}\r\n"
            f"Authorization: {authorization(KEY, 'PUT', target)}\r\n\r\nhalf".encode()
        )
    wait_until(lambda: not server._server._server.server_state.connections, "hung up")

    assert DirectClient(KEY).give(server.address, "sum", SUM) == SUM.digest()
    assert not caplog.records


def test_what_was_tampered_with_on_the_way_is_refused(server: DirectServer) -> None:
    honest, other = encode(make_sums(5)), encode(make_sums(6))
    ref = BlobRef(key="blob", n_bytes=honest.n_bytes, digest=honest.digest())
    assert other.n_bytes == honest.n_bytes
    server.offer("blob", other)
    server.expect("blob", other.n_bytes)
    route = DirectClient(KEY).to(server.address)
    assert route is not None
    assert route.give("blob", other) is not None

    for way in (route, server):
        with pytest.raises(DigestError, match="damaged on the way"):
            Exchange(MemoryBlobs(), None, direct=way).get(ref, what="a blob")


def test_closing_while_a_worker_sends_is_quick_and_quiet(
    server: DirectServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.expect("sum", SUM.n_bytes)
    target = sum_target("sum", SUM.n_bytes)
    with call(server) as stream, call(server) as stranger:
        stream.sendall(
            f"PUT {target} HTTP/1.1\r\nContent-Length: {SUM.n_bytes}\r\n"
            f"Authorization: {authorization(KEY, 'PUT', target)}\r\n\r\nhalf".encode()
        )
        wait_until(lambda: bool(server._server._server.server_state.tasks), "request begun")

        server.close()

        wait_for_end(stream)
        wait_for_end(stranger)
    assert not caplog.records


class TestTls:
    @pytest.fixture
    def encrypted(self, tmp_path: Path) -> Iterator[tuple[DirectServer, str]]:
        files = make_certificate(tmp_path / "ours")
        server = DirectServer("127.0.0.1", KEY, tls=open_tls(files.cert, files.key))
        yield server, files.ca
        server.close()

    def test_blobs_go_both_ways(self, encrypted: tuple[DirectServer, str]) -> None:
        server, ca = encrypted
        large = encode({"weight": torch.randn(2**20)})
        server.offer("state", large)
        server.expect("sum", large.n_bytes)
        client = DirectClient(KEY, ca_file=ca)

        assert server.address.startswith("https://127.0.0.1:")
        found = client.fetch(server.address, "state", large.n_bytes)
        assert found is not None and (bytes(found[0]), found[1]) == (large.join(), large.digest())
        assert client.give(server.address, "sum", large) == large.digest()
        received = server.fetch("sum", large.n_bytes)
        assert received is not None and bytes(received[0]) == large.join()

    def test_an_orchestrator_of_another_authority_is_given_nothing(
        self,
        encrypted: tuple[DirectServer, str],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        server, _ = encrypted
        server.expect("sum", SUM.n_bytes)
        for ca_file in (make_certificate(tmp_path / "other").ca, ""):
            assert DirectClient(KEY, ca_file=ca_file).give(server.address, "sum", SUM) is None
        assert server.is_expected("sum", SUM.n_bytes)
        assert "certificate verify failed" in caplog.text

    def test_a_certificate_of_another_host_is_refused(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = make_certificate(tmp_path, host="another.example")
        server = DirectServer("127.0.0.1", KEY, tls=open_tls(files.cert, files.key))
        try:
            client = DirectClient(KEY, ca_file=files.ca)
            assert client.give(server.address, "sum", SUM) is None
        finally:
            server.close()
        assert "IP address mismatch" in caplog.text

    def test_who_speaks_without_encryption_gets_no_answer(
        self, encrypted: tuple[DirectServer, str]
    ) -> None:
        server, _ = encrypted
        server.offer("state", SUM)
        plain = server.address.replace("https", "http")

        assert DirectClient(KEY).fetch(plain, "state", SUM.n_bytes) is None

    def test_unusable_files_are_one_line(self, tmp_path: Path) -> None:
        ours, others = make_certificate(tmp_path / "a"), make_certificate(tmp_path / "b")
        no_pem = tmp_path / "no.pem"
        no_pem.write_text("no certificate")
        locked = tmp_path / "locked.pem"
        locked.write_text(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
        )
        for cert, key in [
            (str(tmp_path / "missing"), ""),
            (ours.cert, str(tmp_path / "missing")),
            (ours.cert, others.key),
            (ours.cert, ""),
            (ours.cert, str(locked)),
            (str(no_pem), ours.key),
            (str(tmp_path), ours.key),
        ]:
            with pytest.raises(ConfigError, match="METAFLEET_DIRECT_CERT cannot be used") as found:
                open_tls(cert, key)
            assert "\n" not in str(found.value)
        for ca_file in (tmp_path / "missing", no_pem, tmp_path):
            with pytest.raises(ConfigError, match="METAFLEET_DIRECT_CA"):
                DirectClient(KEY, ca_file=str(ca_file))

    def test_a_file_may_hold_certificate_and_key(self, tmp_path: Path) -> None:
        files = make_certificate(tmp_path)
        both = tmp_path / "both.pem"
        both.write_text(Path(files.cert).read_text() + Path(files.key).read_text())

        assert isinstance(open_tls(str(both), ""), ssl.SSLContext)


class TestClient:
    """What a worker makes of servers that are not ours."""

    @staticmethod
    def answering(answer: bytes) -> tuple[str, threading.Thread]:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with listener, listener.accept()[0] as stream:
                stream.recv(2**16)
                stream.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}", thread

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nMetafleet-Proof: \xe9\r\n\r\n",
            b"metafleet direct 1\n",
            b"HTTP/1.1 99999 what\r\n\r\n",
            b"",
        ],
        ids=["no-proof", "no-proof-204", "wrong-proof", "no-http", "bad-status", "nothing"],
    )
    def test_an_answer_that_is_not_ours_is_none(
        self, answer: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = DirectClient(KEY)
        for ask in (
            lambda address: client.fetch(address, "key", 4),
            lambda address: client.give(address, "key", SUM),
        ):
            address, thread = self.answering(answer)
            assert ask(address) is None
            assert client.to(address) is None, "an address that is not ours is avoided a while"
            thread.join(10)
        assert caplog.text.count("tensors go through the store") == 2

    @pytest.mark.parametrize(
        "address",
        ["http://127.0.0.1:1", "http://127.0.0.1:x", "http://", "ftp", "http://no.invalid:1"],
    )
    def test_an_address_that_is_not_reached_is_told_once(
        self, address: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = DirectClient(KEY)

        assert client.fetch(address, "key", 4) is None

        assert client.to(address) is None
        (told,) = caplog.records
        assert told.getMessage().startswith(f"{address} is not reached directly (")

    @pytest.mark.parametrize("length", [3, 5])
    def test_a_state_of_another_length_is_none(self, length: int) -> None:
        code = proof(KEY, "GET", state_target("key", 4))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nMetafleet-Proof: {code}\r\n\r\n"
        address, thread = self.answering(head.encode() + bytes(length))

        assert DirectClient(KEY).fetch(address, "key", 4) is None
        thread.join(10)

    def test_a_connection_that_went_stale_is_opened_again(self, server: DirectServer) -> None:
        server.offer("state", SUM)
        server.expect("sum", SUM.n_bytes)
        proxy = TcpProxy(port_of(server))
        try:
            route = DirectClient(KEY).to(f"http://127.0.0.1:{proxy.port}")
            assert route is not None
            assert route.fetch("state", SUM.n_bytes) is not None
            proxy.cut()
            assert route.fetch("state", SUM.n_bytes) is not None
            proxy.cut()
            assert route.give("sum", SUM) == SUM.digest()
        finally:
            proxy.close()
