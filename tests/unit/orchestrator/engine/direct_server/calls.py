"""Calls to the server of direct transfers, right and wrong."""

import contextlib
import http.client
import socket
from typing import Any
from urllib.parse import urlsplit

from metafleet.contracts.codec import encode
from metafleet.contracts.direct_client import DirectClient
from metafleet.orchestrator.engine.direct_server import DirectServer
from tests.messages import make_sums

KEY = "test-key"


SUM = encode(make_sums(2))


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
