"""The orchestrator's end of direct transfers: states to workers of other hosts, sums from them."""

import socket
import ssl
import threading
from pathlib import Path

from metafleet.contracts.codec import Encoded
from metafleet.errors import ConfigError
from metafleet.orchestrator.engine.direct_app import DirectApp
from metafleet.orchestrator.web.server import BACKLOG, WebServer


class DirectServer:
    """Blobs of one run, by key, in this process. Thread-safe.

    A blob that is not expected, or of another length than expected, is refused before memory is
    taken for it. What is offered is not copied.

    Args:
        address: "host" or "host:port" at which workers reach this host.
        signing_key: what callers must know; not empty.
        tls: encrypts what travels; None does not.

    Raises:
        ConfigError: the address is not this host's.
        OSError: the port is taken.
    """

    def __init__(
        self, address: str, signing_key: str, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._offered: dict[str, Encoded] = {}
        self._expected: dict[str, int] = {}
        self._received: dict[str, tuple[bytearray, str] | None] = {}
        self._lock = threading.Lock()
        listener, host = _listen(address)
        name = f"[{host}]" if ":" in host else host
        scheme = "http" if tls is None else "https"
        self.address = f"{scheme}://{name}:{listener.getsockname()[1]}"
        """Where workers reach it."""
        self._server = WebServer(DirectApp(self, signing_key), listener, tls=tls)

    def offer(self, key: str, encoded: Encoded) -> None:
        """Let workers fetch a blob until it is withdrawn; its memory must not change till then."""
        with self._lock:
            self._offered[key] = encoded

    def withdraw(self, key: str) -> None:
        """Stop offering a blob."""
        with self._lock:
            self._offered.pop(key, None)

    def find_offered(self, key: str, n_bytes: int) -> Encoded | None:
        """Return a blob that is offered; None when none of that length is."""
        with self._lock:
            found = self._offered.get(key)
        return found if found is not None and found.n_bytes == n_bytes else None

    def expect(self, key: str, n_bytes: int) -> None:
        """Take a blob of that length when it comes."""
        with self._lock:
            self._expected[key] = n_bytes

    def is_expected(self, key: str, n_bytes: int) -> bool:
        """Return whether a blob of that length would be taken."""
        with self._lock:
            return self._expected.get(key) == n_bytes

    def deliver(self, key: str, data: bytearray, digest: str) -> bool:
        """Take a blob that came; False when its step has ended meanwhile."""
        with self._lock:
            if self._expected.pop(key, None) != len(data):
                return False
            self._received[key] = data, digest
            return True

    def fetch(self, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Hand out, once, a blob that came, with its digest; None when none of that length did."""
        with self._lock:
            found = self._received.get(key)
            if found is None or len(found[0]) != n_bytes:
                return None
            self._received[key] = None
            return found

    def give(self, key: str, encoded: Encoded) -> str | None:
        """Send nothing: workers call."""
        return None

    def forget(self, key: str) -> bool:
        """Forget a blob that came or may come; False when it did not come this way."""
        with self._lock:
            self._expected.pop(key, None)
            return key in self._received and self._received.pop(key, None) is None

    def close(self) -> None:
        """Take no more calls and hang up."""
        self._server.close()


def open_tls(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Load the certificate that the orchestrator shows to workers.

    Args:
        cert_file: PEM file of the certificate, and of those between it and the authority.
        key_file: PEM file of its private key; "" when ``cert_file`` holds it too.

    Raises:
        ConfigError: they cannot be read, do not belong together, or the key has a password.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        for each in (cert_file, key_file or cert_file):
            Path(each).open("rb").close()  # ssl would not say which is missing
        context.load_cert_chain(cert_file, key_file or None, password=lambda: "")
    except OSError as error:
        where = error.filename or cert_file
        raise ConfigError(
            f"the certificate in METAFLEET_DIRECT_CERT cannot be used ({where}: "
            f"{error.strerror or error}); expected PEM files, the private key without a password "
            "in METAFLEET_DIRECT_CERT_KEY or next to the certificate"
        ) from error
    return context


def parse_address(text: str) -> tuple[str, int]:
    """Split "host" or "host:port"; port 0 is any that is free.

    Raises:
        ConfigError: it is neither.
    """
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "0")
    if not colon:
        host, port = text, "0"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"METAFLEET_DIRECT_ADDRESS={text!r}; expected the name or address at which workers "
            "reach this host, and perhaps a port: 10.0.0.5 or 10.0.0.5:7100"
        )
    return host, int(port)


def _listen(address: str) -> tuple[socket.socket, str]:
    """Listen at an address; returns the socket and the host."""
    host, port = parse_address(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG), host
    except OSError as error:
        if port and not isinstance(error, socket.gaierror) and _is_own(host, family):
            raise
        raise ConfigError(
            f"METAFLEET_DIRECT_ADDRESS={address!r} is no address of this host "
            f"({error.strerror or error}); set one at which workers reach it, or unset it"
        ) from error


def _is_own(host: str, family: int) -> bool:
    """Return whether a host name is this host's: whether a free port of it can be listened to."""
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError:
        return False
    return True
