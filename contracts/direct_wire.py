"""The direct stream: what orchestrator and workers of other hosts say to each other over TCP.

Both prove that they know the deployment's signing key before anything else is said; after that a
worker asks for a blob or hands one in. Digests travel in signed messages, so a stream that is
damaged, or whose middle somebody sits in, is found out; bytes are hashed as they come and go.
"""

import hashlib
import hmac
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from metafleet.errors import ConfigError

TIMEOUT_S: Final = 30.0
"""How long one piece may take; of a peer that is silent for so long nothing more is expected."""

HANDSHAKE_S: Final = 5.0
"""How long each half of a handshake may take in all, however few bytes come at a time."""

GET: Final = b"G"
PUT: Final = b"P"
YES: Final = b"\x01"
NO: Final = b"\x00"

_HELLO: Final = b"metafleet direct 1\n"
_NONCE_BYTES: Final = 32
_CHUNK_BYTES: Final = 2**20
_REQUEST: Final = struct.Struct("!cHQ")
_LONGEST_KEY: Final = 1024
_TIMEVAL: Final = struct.Struct("ll")


def parse_address(text: str) -> tuple[str, int]:
    """Split "host" or "host:port"; port 0 is any that is free.

    Raises:
        ConfigError: it is neither.
    """
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "0")
    if not colon:
        host, port = text, "0"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f"METAFLEET_DIRECT_ADDRESS={text!r}; expected the name or address at which workers "
            "reach this host, and perhaps a port: 10.0.0.5 or 10.0.0.5:7100"
        )
    return host, int(port)


def limit(sock: socket.socket, timeout_s: float) -> None:
    """Let every call on ``sock`` end after so long.

    By the system: with Python's own time-out a call returns as soon as anything is there, a few
    kB at a time.
    """
    sock.settimeout(None)
    seconds = _TIMEVAL.pack(int(timeout_s), 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)


def _limit_of(sock: socket.socket) -> float:
    """Tell the seconds after which a call on ``sock`` ends."""
    seconds, microseconds = _TIMEVAL.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.size)
    )
    return float(seconds + microseconds / 1e6)


def shake_hands(sock: socket.socket, key: str, *, is_server: bool) -> bool:
    """Prove to each other that both know ``key``; False when the other does not.

    Raises:
        OSError: the connection broke.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sock.sendall(_HELLO + nonce)
    hello = _receive_at_once(sock, len(_HELLO) + _NONCE_BYTES)
    if not hello.startswith(_HELLO):
        return False
    theirs = hello[len(_HELLO) :]
    own, other = (b"server", b"client") if is_server else (b"client", b"server")
    if not is_server:  # who calls proves it first: a server tells strangers nothing
        sock.sendall(_proof(key, own, nonce, theirs))
    found = _receive_at_once(sock, hashlib.sha256().digest_size)
    if not hmac.compare_digest(found, _proof(key, other, theirs, nonce)):
        return False
    if is_server:
        sock.sendall(_proof(key, own, nonce, theirs))
    return True


def _receive_at_once(sock: socket.socket, n_bytes: int) -> bytes:
    """Receive by calls that the limit of ``sock`` ends as a whole.

    ``receive`` would begin anew with every byte of a stranger who sends one now and then. One call
    waits for all bytes, but for a signal, which ends it early.
    """
    ends_s, data = time.monotonic() + _limit_of(sock), b""
    while len(data) < n_bytes:
        part = sock.recv(n_bytes - len(data), socket.MSG_WAITALL)
        data += part
        is_late = len(data) < n_bytes and time.monotonic() >= ends_s
        if not part or is_late:
            raise ConnectionAbortedError("no whole handshake came over a direct stream")
    return data


def _proof(key: str, role: bytes, own: bytes, theirs: bytes) -> bytes:
    return hmac.new(key.encode(), _HELLO + role + own + theirs, hashlib.sha256).digest()


def send_request(sock: socket.socket, what: bytes, key: str, n_bytes: int) -> None:
    """Ask for a blob (``GET``), or to take one (``PUT``)."""
    name = key.encode()
    sock.sendall(_REQUEST.pack(what, len(name), n_bytes) + name)


def read_request(sock: socket.socket) -> tuple[bytes, str, int]:
    """Read what is asked for: what, key, length.

    Raises:
        OSError: the connection ended or broke, or what came is no request.
    """
    what, n_key, n_bytes = _REQUEST.unpack(receive(sock, _REQUEST.size))
    if what not in (GET, PUT) or n_key > _LONGEST_KEY:
        raise ConnectionAbortedError("no request of ours came over a direct stream")
    return what, receive(sock, n_key).decode(errors="replace"), n_bytes


def receive(sock: socket.socket, n_bytes: int) -> bytearray:
    """Receive exactly so many bytes; for few.

    Raises:
        OSError: the connection ended or broke.
    """
    data = bytearray(n_bytes)
    _fill(sock, memoryview(data))
    return data


def receive_hashed(sock: socket.socket, n_bytes: int) -> tuple[bytearray, str]:
    """Receive exactly so many bytes, hashing what is here while the rest is on its way.

    Returns:
        The bytes and their digest.

    Raises:
        OSError: the connection ended or broke.
    """
    data, hasher = bytearray(n_bytes), blake3()
    view = memoryview(data)
    for begin in range(0, n_bytes, _CHUNK_BYTES):
        chunk = view[begin : begin + _CHUNK_BYTES]
        _fill(sock, chunk)
        hasher.update(chunk)
    return data, hasher.hexdigest()


def send_hashed(sock: socket.socket, pieces: Sequence[memoryview]) -> str:
    """Send pieces, hashing the next bytes while the last ones are on their way; returns the digest.

    Raises:
        OSError: the connection broke.
    """
    hasher = blake3()
    for piece in pieces:
        view = piece.cast("B")
        for begin in range(0, view.nbytes, _CHUNK_BYTES):
            chunk = view[begin : begin + _CHUNK_BYTES]
            hasher.update(chunk)
            sock.sendall(chunk)
    return hasher.hexdigest()


def _fill(sock: socket.socket, view: memoryview) -> None:
    while view:
        received = sock.recv_into(view, len(view), socket.MSG_WAITALL)
        if not received:
            raise ConnectionResetError("the other end closed the direct stream")
        view = view[received:]
