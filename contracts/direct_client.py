"""The worker's end of the direct stream: blobs from and to the orchestrator, without a store."""

import logging
import socket
import time
from typing import Final

from contracts.codec import Encoded
from contracts.direct_wire import (
    GET,
    PUT,
    TIMEOUT_S,
    YES,
    limit,
    parse_address,
    receive,
    receive_hashed,
    send_hashed,
    send_request,
    shake_hands,
)
from metafleet.errors import ConfigError

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 3.0
_AVOIDED_S: Final = 30.0
"""How long an address that was not reached is not tried again: the store is there meanwhile."""


class DirectClient:
    """One connection, to the orchestrator whose jobs are at hand. Not thread-safe.

    Args:
        signing_key: what both ends know; "" does without direct streams.
    """

    def __init__(self, signing_key: str) -> None:
        self._key = signing_key
        self._sock: socket.socket | None = None
        self._address = ""
        self._avoided_until_s: dict[str, float] = {}

    def to(self, address: str) -> "DirectRoute | None":
        """Give the way to an orchestrator; None where there is none."""
        is_avoided = self._avoided_until_s.get(address, 0.0) > time.monotonic()
        return DirectRoute(self, address) if address and self._key and not is_avoided else None

    def fetch(self, address: str, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Get a blob and its digest; None when it is not there, or cannot be reached."""
        sock = self._request(address, GET, key, n_bytes)
        if sock is None:
            return None
        try:
            return receive_hashed(sock, n_bytes)
        except OSError as error:
            self._give_up(address, error)
            return None

    def give(self, address: str, key: str, encoded: Encoded) -> str | None:
        """Hand a blob in; returns its digest, None when it is not wanted or nobody is reached."""
        sock = self._request(address, PUT, key, encoded.n_bytes)
        if sock is None:
            return None
        try:
            digest = send_hashed(sock, encoded.pieces)
            return digest if receive(sock, 1) == YES else None
        except OSError as error:
            self._give_up(address, error)
            return None

    def _request(self, address: str, what: bytes, key: str, n_bytes: int) -> socket.socket | None:
        """Ask; a connection that went stale is made anew, once."""
        is_reused = self._sock is not None and self._address == address
        while True:
            try:
                sock = self._connect(address)
                send_request(sock, what, key, n_bytes)
                return sock if receive(sock, 1) == YES else None
            except (OSError, ConfigError) as error:
                if not is_reused:
                    self._give_up(address, error)
                    return None
                self._close()
                is_reused = False

    def _connect(self, address: str) -> socket.socket:
        if self._sock is not None and self._address == address:
            return self._sock
        self._close()
        sock = socket.create_connection(parse_address(address), _CONNECT_TIMEOUT_S)
        try:
            limit(sock, TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not shake_hands(sock, self._key, is_server=False):
                raise ConnectionRefusedError("it does not know this deployment's signing key")
        except BaseException:
            sock.close()
            raise
        self._sock, self._address = sock, address
        return sock

    def _give_up(self, address: str, error: Exception) -> None:
        self._close()
        self._avoided_until_s = {address: time.monotonic() + _AVOIDED_S}
        log.warning("no direct stream to %s (%s); tensors go through the store", address, error)

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock, self._address = None, ""


class DirectRoute:
    """The way to one orchestrator; a ``Direct`` of ``contracts.exchange``."""

    def __init__(self, client: DirectClient, address: str) -> None:
        self._client, self._address = client, address

    def fetch(self, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Get a blob and its digest; None when it is not there."""
        return self._client.fetch(self._address, key, n_bytes)

    def give(self, key: str, encoded: Encoded) -> str | None:
        """Hand a blob in; returns its digest, None when it did not get there."""
        return self._client.give(self._address, key, encoded)

    def forget(self, key: str) -> bool:
        """Leave it to the orchestrator, which forgets with its step what came; see to the store."""
        return False
