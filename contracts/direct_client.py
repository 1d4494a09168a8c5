"""The worker's end of direct transfers: exchanges blobs with the orchestrator without a store."""

import contextlib
import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from blake3 import blake3

from metafleet.contracts.codec import Encoded
from metafleet.contracts.direct import (
    CHUNK_BYTES,
    PROOF_HEADER,
    TIMEOUT_S,
    authorization,
    is_same,
    proof,
    state_target,
    sum_target,
)
from metafleet.errors import ConfigError

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 3.0
_AVOIDED_S: Final = 30.0
"""How long an unreachable address is not retried. The store is used in the meantime."""

_BROKEN: Final = (OSError, HTTPException, ValueError)


class DirectClient:
    """A connection to the orchestrator of the current job. Not thread-safe.

    Args:
        signing_key: the shared key; "" turns direct transfers off.
        ca_file: PEM file of the certificates with which orchestrators are verified; "" for the
            certificates that the system trusts.

    Raises:
        ConfigError: ``ca_file`` cannot be used.
    """

    def __init__(self, signing_key: str, *, ca_file: str = "") -> None:
        self._key = signing_key
        self._tls = _trust(ca_file) if ca_file else None
        self._connection: HTTPConnection | None = None
        self._address = ""
        self._avoided_until_s: dict[str, float] = {}

    def to(self, address: str) -> "DirectRoute | None":
        """Return the route to an orchestrator; None if there is none."""
        is_avoided = self._avoided_until_s.get(address, 0.0) > time.monotonic()
        return DirectRoute(self, address) if address and self._key and not is_avoided else None

    def fetch(self, address: str, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Get a blob and its digest; None if it is missing or the address cannot be reached."""
        try:
            _, response = self._ask(address, "GET", state_target(key, n_bytes))
            return _receive(response, n_bytes) if response.status == HTTPStatus.OK else None
        except _BROKEN as error:
            self._give_up(address, error)
            return None

    def give(self, address: str, key: str, encoded: Encoded) -> str | None:
        """Upload a blob. Return its digest; None if it is not wanted or could not be delivered."""
        target, hasher = sum_target(key, encoded.n_bytes), blake3()
        try:
            connection, response = self._ask(address, "HEAD", target)
            if response.status != HTTPStatus.NO_CONTENT:
                return None
            body, length = _hashed(encoded.pieces, hasher), str(encoded.n_bytes)
            response = self._request(connection, "PUT", target, body, {"Content-Length": length})
            return hasher.hexdigest() if response.status == HTTPStatus.NO_CONTENT else None
        except _BROKEN as error:
            self._give_up(address, error)
            return None

    def _ask(self, address: str, method: str, target: str) -> tuple[HTTPConnection, HTTPResponse]:
        """Make a request without a body. Reopen a stale connection once."""
        if self._connection is not None and self._address == address:
            with contextlib.suppress(*_BROKEN):
                return self._connection, self._request(self._connection, method, target)
        connection = self._connect(address)
        return connection, self._request(connection, method, target)

    def _request(
        self,
        connection: HTTPConnection,
        method: str,
        target: str,
        body: Iterator[memoryview] | None = None,
        headers: dict[str, str] | None = None,
    ) -> HTTPResponse:
        token = authorization(self._key, method, target)
        connection.request(method, target, body, {"Authorization": token, **(headers or {})})
        response = connection.getresponse()
        found = response.headers.get(PROOF_HEADER, "")
        if not is_same(found, proof(self._key, method, target)):
            raise ConnectionRefusedError("it does not know this deployment's signing key")
        if response.status != HTTPStatus.OK:
            response.read()  # empty, but this frees the connection
        return response

    def _connect(self, address: str) -> HTTPConnection:
        self._close()
        where = urlsplit(address)
        host, port = where.hostname or "", where.port
        if where.scheme == "https":
            tls = self._tls or ssl.create_default_context()
            connection: HTTPConnection = HTTPSConnection(
                host, port, timeout=_CONNECT_TIMEOUT_S, context=tls
            )
        else:
            connection = HTTPConnection(host, port, timeout=_CONNECT_TIMEOUT_S)
        connection.connect()
        connection.auto_open = 0
        connection.sock.settimeout(TIMEOUT_S)
        self._connection, self._address = connection, address
        return connection

    def _give_up(self, address: str, error: Exception) -> None:
        self._close()
        self._avoided_until_s = {address: time.monotonic() + _AVOIDED_S}
        log.warning("%s is not reached directly (%s); tensors go through the store", address, error)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._address = None, ""


class DirectRoute:
    """The route to one orchestrator. Implements ``Direct`` of ``contracts.exchange``."""

    def __init__(self, client: DirectClient, address: str) -> None:
        self._client, self._address = client, address

    def fetch(self, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Get a blob and its digest; None if it is missing."""
        return self._client.fetch(self._address, key, n_bytes)

    def give(self, key: str, encoded: Encoded) -> str | None:
        """Upload a blob. Return its digest; None if it could not be delivered."""
        return self._client.give(self._address, key, encoded)

    def forget(self, key: str) -> bool:
        """Return False: only the store's copy needs deleting; the orchestrator drops its own."""
        return False


def _trust(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(
            f"METAFLEET_DIRECT_CA={ca_file!r} cannot be used ({error.strerror or error}); "
            "expected a PEM file of certificates"
        ) from error


def _receive(response: HTTPResponse, n_bytes: int) -> tuple[bytearray, str]:
    """Receive exactly ``n_bytes`` bytes. Hash the received part while the rest is in transit."""
    data, hasher = bytearray(n_bytes), blake3()
    view = memoryview(data)
    for begin in range(0, n_bytes, CHUNK_BYTES):
        chunk = view[begin : begin + CHUNK_BYTES]
        if response.readinto(chunk) != len(chunk):
            raise ConnectionResetError(f"less than {n_bytes} bytes came")
        hasher.update(chunk)
    if response.read(1):
        raise ConnectionAbortedError(f"more than {n_bytes} bytes came")
    return data, hasher.hexdigest()


def _hashed(pieces: Sequence[memoryview], hasher: Any) -> Iterator[memoryview]:
    """Yield chunks to be sent. Each is hashed while the previous one is in transit."""
    for piece in pieces:
        view = piece.cast("B")
        for begin in range(0, view.nbytes, CHUNK_BYTES):
            chunk = view[begin : begin + CHUNK_BYTES]
            hasher.update(chunk)
            yield chunk
