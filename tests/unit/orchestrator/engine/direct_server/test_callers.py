"""Who calls the server of direct transfers, and what that may cost it."""

import errno
import itertools
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from metafleet.contracts.codec import encode
from metafleet.contracts.direct import PROOF_HEADER, authorization, proof, state_target, sum_target
from metafleet.contracts.direct_client import DirectClient
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import BlobRef
from metafleet.errors import DigestError
from metafleet.orchestrator.engine import direct_app
from metafleet.orchestrator.engine.direct_server import DirectServer, open_tls
from metafleet.orchestrator.web import server as web_server
from tests.certificates import make_certificate
from tests.fleet import wait_until
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_sums
from tests.unit.orchestrator.engine.direct_server.calls import (
    KEY,
    SUM,
    call,
    fetches,
    request,
    wait_for_end,
)


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


def test_tampered_tensors_are_refused(server: DirectServer) -> None:
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
