"""The orchestrator's end of direct transfers with workers on other hosts."""

import socket
import ssl
import threading
from pathlib import Path

from metafleet.contracts.codec import Encoded
from metafleet.errors import ConfigError
from metafleet.orchestrator.engine.direct_app import DirectApp
from metafleet.orchestrator.web.server import BACKLOG, WebServer


class DirectServer:
    """Serves the blobs of one run from this process, by key. Thread-safe.

    Workers download states and upload gradient sums. An upload that is not expected, or whose
    length is not the expected one, is refused before memory is allocated for it. Blobs that are
    offered for download are not copied.

    Args:
        address: "host" or "host:port" at which workers reach this host.
        signing_key: the key that callers must know; not empty.
        tls: encrypts the transfers; None for no encryption.

    Raises:
        ConfigError: the address is not an address of this host.
        OSError: another program uses the port.
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
        """The URL at which workers reach it."""
        self._server = WebServer(DirectApp(self, signing_key), listener, tls=tls)

    def offer(self, key: str, encoded: Encoded) -> None:
        """Offer a blob to workers until it is withdrawn. Its memory must not change until then."""
        with self._lock:
            self._offered[key] = encoded

    def withdraw(self, key: str) -> None:
        """Stop offering a blob."""
        with self._lock:
            self._offered.pop(key, None)

    def find_offered(self, key: str, n_bytes: int) -> Encoded | None:
        """Return an offered blob; None if there is none of that length."""
        with self._lock:
            found = self._offered.get(key)
        return found if found is not None and found.n_bytes == n_bytes else None

    def expect(self, key: str, n_bytes: int) -> None:
        """Accept a blob of that length when it arrives."""
        with self._lock:
            self._expected[key] = n_bytes

    def is_expected(self, key: str, n_bytes: int) -> bool:
        """Return whether a blob of that length would be accepted."""
        with self._lock:
            return self._expected.get(key) == n_bytes

    def deliver(self, key: str, data: bytearray, digest: str) -> bool:
        """Store a received blob. Return False if its step has ended in the meantime."""
        with self._lock:
            if self._expected.pop(key, None) != len(data):
                return False
            self._received[key] = data, digest
            return True

    def fetch(self, key: str, n_bytes: int) -> tuple[bytearray, str] | None:
        """Return a received blob and its digest, once; None if there is none of that length."""
        with self._lock:
            found = self._received.get(key)
            if found is None or len(found[0]) != n_bytes:
                return None
            self._received[key] = None
            return found

    def give(self, key: str, encoded: Encoded) -> str | None:
        """Return None: only workers start transfers."""
        return None

    def forget(self, key: str) -> bool:
        """Forget a received or expected blob. Return False if it was not received directly."""
        with self._lock:
            self._expected.pop(key, None)
            return key in self._received and self._received.pop(key, None) is None

    def close(self) -> None:
        """Accept no more requests and close all connections."""
        self._server.close()


def open_tls(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Return a TLS context with the certificate that the orchestrator presents to workers.

    Args:
        cert_file: PEM file of the certificate and of the intermediate certificates.
        key_file: PEM file of the certificate's private key; "" if ``cert_file`` also contains the
            key.

    Raises:
        ConfigError: a file cannot be read, the files do not match, or the key has a password.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        for each in (cert_file, key_file or cert_file):
            Path(each).open("rb").close()  # ssl would not tell which one is missing
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
    """Split "host" or "host:port" into host and port. Port 0 stands for any free port.

    Raises:
        ConfigError: the address has neither form.
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
    """Listen at an address. Return the socket and the host."""
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
    """Return whether a host name is this host's, by trying to listen to one of its ports."""
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError:
        return False
    return True
