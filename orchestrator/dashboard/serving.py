"""Serves the dashboard until a signal ends it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette

from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.hub import Hub
from metafleet.orchestrator.dashboard.trying.trial import Trial
from metafleet.orchestrator.web.listening import listen

_CLOSING_S: Final = 3
"""Time for requests to end after Ctrl-C. Streams of events end at once."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a dashboard listens.

    Attributes:
        host, port: the address; port 0 stands for a free one.
        cert, cert_key: PEM files of a certificate and its private key; None for unencrypted
            connections, or if the certificate's file holds the key as well.
        is_fixed: False if another port may be used when ``port`` is in use.
    """

    host: str = "127.0.0.1"
    port: int = 8050
    cert: Path | None = None
    cert_key: Path | None = None
    is_fixed: bool = True

    def listen(self) -> socket.socket:
        """Return a socket that listens here; raise as ``listen``."""
        try:
            return listen(self.host, self.port)
        except ConfigError:
            if self.is_fixed:
                raise
            return listen(self.host, 0)

    def url(self, port: int) -> str:
        """Return the address for browsers, given the port that is really used."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.cert else 'http'}://{name}:{port}/"

    def tls_options(self) -> dict[str, str]:
        """Return uvicorn's options for the certificate; none without one.

        Raises:
            ConfigError: the certificate and its key cannot be loaded.
        """
        if self.cert is None:
            if self.cert_key is not None:
                raise ConfigError("--cert-key goes with --cert; add --cert")
            return {}
        key = self.cert_key or self.cert
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.cert, key)
        except OSError as error:  # includes SSLError
            raise ConfigError(
                f"--cert {self.cert} cannot be used ({error}); expected PEM files of a certificate "
                "and its private key"
            ) from error
        return {"ssl_certfile": str(self.cert), "ssl_keyfile": str(key)}


class DashboardServer(uvicorn.Server):
    """A server of one application. ``run`` returns after SIGINT or SIGTERM, or ``should_exit``.

    Args:
        app: the application.
        hub: the hub whose streams end when the server does.
        trial: the trial whose computation ends when the server does.
        tls: uvicorn's options for TLS; none for unencrypted connections.
    """

    def __init__(self, app: Starlette, hub: Hub, trial: Trial | None = None, **tls: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_S,
                **tls,
            )
        )
        self._hub, self._trial = hub, trial

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams and the computation first; uvicorn would wait for them."""
        self._hub.close()
        if self._trial is not None:
            self._trial.close()
        await super().shutdown(sockets)


@contextmanager
def served_by(server: DashboardServer, listener: socket.socket) -> Iterator[None]:
    """Let a server run in a thread for as long as the block runs, and then close its socket."""
    thread = threading.Thread(target=server.run, args=([listener],), name="dashboard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
