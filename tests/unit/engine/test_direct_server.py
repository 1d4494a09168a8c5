"""Who calls a direct stream's server, and what that may cost it."""

import errno
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from contracts.codec import encode
from contracts.direct_client import DirectClient
from orchestrator.engine import direct_server
from orchestrator.engine.direct_server import DirectServer
from tests.messages import make_sums

KEY = "test-key"


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
    host, port = server.address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


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


def test_a_stranger_who_says_a_byte_now_and_then_is_hung_up_on(
    server: DirectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_server, "HANDSHAKE_S", 1)
    n_said, never = 0, threading.Event()
    with call(server) as stranger, pytest.raises(OSError):
        for byte in b"metafleet direct 1\n" + bytes(31):  # one less than a greeting
            stranger.sendall(bytes([byte]))
            n_said += 1
            never.wait(0.1)
    assert n_said < 50


def test_silent_strangers_do_not_keep_workers_out_for_good(
    server: DirectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_server, "HANDSHAKE_S", 1)
    strangers = [call(server) for _ in range(direct_server._MOST_STRANGERS + 1)]
    try:
        assert fetches(server)
    finally:
        for stranger in strangers:
            stranger.close()
