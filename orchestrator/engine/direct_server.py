"""The orchestrator's end of the direct stream: states to workers of other hosts, sums from them."""

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Final

from contracts.codec import Encoded
from contracts.direct_wire import (
    GET,
    HANDSHAKE_S,
    NO,
    TIMEOUT_S,
    YES,
    limit,
    parse_address,
    read_request,
    receive_hashed,
    shake_hands,
)
from metafleet.errors import ConfigError

log = logging.getLogger(__name__)

_IDLE_S: Final = 3600.0
"""How long a worker may be silent between two jobs; it connects again when it must."""

_BACKLOG: Final = 512

_MOST_STRANGERS: Final = 64
"""Callers that have not proved yet to know the key; the next wait in the backlog."""

_PAUSE_S: Final = 0.5
"""How long no call is taken when the process has no room for one."""


class DirectServer:
    """Blobs of one run, by key, in this process. Thread-safe.

    A blob that nobody expects, or of another length than expected, is refused before any memory
    is taken for it. What is offered is not copied.

    Args:
        address: "host" or "host:port" at which workers reach this host.
        signing_key: what callers must know; not empty.

    Raises:
        ConfigError: the address is not this host's.
        OSError: the port is taken.
    """

    def __init__(self, address: str, signing_key: str) -> None:
        host, port = parse_address(address)
        self._key = signing_key
        self._offered: dict[str, Encoded] = {}
        self._expected: dict[str, int] = {}
        self._received: dict[str, tuple[bytearray, str] | None] = {}
        self._lock = threading.Lock()
        self._streams: set[socket.socket] = set()
        self._strangers = threading.Semaphore(_MOST_STRANGERS)
        self._closed = threading.Event()
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if port and not isinstance(error, socket.gaierror) and _is_own(host, family):
                raise
            raise ConfigError(
                f"METAFLEET_DIRECT_ADDRESS={address!r} is no address of this host "
                f"({error.strerror or error}); set one at which workers reach it, or unset it"
            ) from error
        name = f"[{host}]" if ":" in host else host
        self.address = f"{name}:{self._listener.getsockname()[1]}"
        """Where workers reach it, with its port."""
        self._thread = threading.Thread(target=self._accept, name="direct", daemon=True)
        self._thread.start()

    def offer(self, key: str, encoded: Encoded) -> None:
        """Let workers fetch a blob until it is withdrawn; its memory must not change till then."""
        with self._lock:
            self._offered[key] = encoded

    def withdraw(self, key: str) -> None:
        """Offer a blob no more."""
        with self._lock:
            self._offered.pop(key, None)

    def expect(self, key: str, n_bytes: int) -> None:
        """Take a blob of that length when it comes."""
        with self._lock:
            self._expected[key] = n_bytes

    def fetch(self, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Hand out, once, a blob that came, with its digest; None when none of that length did."""
        with self._lock:
            found = self._received.get(key)
            if found is None or len(found[0]) != n_bytes:
                return None
            self._received[key] = None
            return found

    def give(self, key: str, encoded: Encoded) -> str | None:
        """Send nothing: it is workers who call."""
        return None

    def forget(self, key: str) -> bool:
        """Forget a blob that came or may come; False when it did not come this way."""
        with self._lock:
            self._expected.pop(key, None)
            return key in self._received and self._received.pop(key, None) is None

    def close(self) -> None:
        """Take no more calls and hang up."""
        self._closed.set()
        with self._lock:
            streams, self._streams = self._streams, set()
        for each in (self._listener, *streams):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            self._strangers.acquire()
            try:
                self._take_call()
            except (OSError, RuntimeError) as error:  # no more files, or no more threads
                self._strangers.release()
                if self._closed.is_set():
                    return
                log.warning("a direct stream cannot be taken (%s); trying again", error)
                self._closed.wait(_PAUSE_S)

    def _take_call(self) -> None:
        stream, peer = self._listener.accept()
        try:
            threading.Thread(
                target=self._serve, args=(stream, str(peer[0])), name="direct-stream", daemon=True
            ).start()
        except BaseException:
            stream.close()
            raise

    def _serve(self, stream: socket.socket, peer: str) -> None:
        with stream, self._known(stream), contextlib.suppress(OSError):
            if not self._is_ours(stream):
                log.warning("a caller at %s does not know the signing key: hung up", peer)
                return
            while True:
                limit(stream, _IDLE_S)
                what, key, n_bytes = read_request(stream)
                limit(stream, TIMEOUT_S)
                if what == GET:
                    self._send(stream, key, n_bytes)
                else:
                    self._take(stream, key, n_bytes)

    def _is_ours(self, stream: socket.socket) -> bool:
        """Tell whether the caller knows the key, within seconds; then the next may call."""
        try:
            limit(stream, HANDSHAKE_S)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._closed.is_set():
                raise ConnectionAbortedError("closed meanwhile")
            return shake_hands(stream, self._key, is_server=True)
        finally:
            self._strangers.release()

    @contextlib.contextmanager
    def _known(self, stream: socket.socket) -> Iterator[None]:
        with self._lock:
            self._streams.add(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams.discard(stream)

    def _send(self, stream: socket.socket, key: str, n_bytes: int) -> None:
        with self._lock:
            encoded = self._offered.get(key)
        if encoded is None or encoded.n_bytes != n_bytes:
            stream.sendall(NO)
            return
        stream.sendall(YES)
        for piece in encoded.pieces:
            stream.sendall(piece)

    def _take(self, stream: socket.socket, key: str, n_bytes: int) -> None:
        with self._lock:
            is_wanted = self._expected.get(key) == n_bytes
        stream.sendall(YES if is_wanted else NO)
        if not is_wanted:
            return
        came = receive_hashed(stream, n_bytes)
        with self._lock:
            is_wanted = self._expected.pop(key, None) == n_bytes  # its step may have ended
            if is_wanted:
                self._received[key] = came
        stream.sendall(YES if is_wanted else NO)


def _is_own(host: str, family: int) -> bool:
    """Tell whether a host name is this host's: whether a free port of it can be listened to."""
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError:
        return False
    return True
