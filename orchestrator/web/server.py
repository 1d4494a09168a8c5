"""Runs a web application in a thread with uvicorn, with limits for unauthenticated clients."""

import asyncio
import logging
import socket
import ssl
import threading
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

STRANGER_S: Final = 5.0
"""Time within which the application must welcome a caller, TLS handshake included."""

MOST_STRANGERS: Final = 64
"""Maximum number of callers not yet welcomed; further ones wait in the backlog."""

BACKLOG: Final = 512

_LONGEST_GREETING_BYTES: Final = 2**16
_PAUSE_S: Final = 0.5
"""Pause after a connection could not be accepted."""

_IDLE_S: Final = 3600
"""Maximum idle time between two requests; after it, the caller must reconnect."""

_CLOSING_S: Final = 5


class Caller(HttpToolsProtocol):
    """One client connection. The application gets it as ``scope["state"]["caller"]``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app_state = {"caller": self}
        self.is_settled = asyncio.Event()
        """Set once the caller was welcomed or has disconnected."""
        self._n_bytes = 0

    def welcome(self) -> None:
        """Lift the limits: the caller has authenticated."""
        self.is_settled.set()

    def hang_up(self) -> None:
        """Close the connection at once and drop unsent data."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse received data; hang up on a stranger that sends too much."""
        if not self.is_settled.is_set():
            self._n_bytes += len(data)
            if self._n_bytes > _LONGEST_GREETING_BYTES:
                self.hang_up()
                return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the caller has disconnected."""
        self.is_settled.set()
        super().connection_lost(exc)


class WebServer:
    """Serves an application until ``close``.

    The application must accept each connection by calling ``welcome``. If a connection is not
    accepted within seconds, the server closes it. At most 64 connections can wait to be accepted at
    a time. So unknown callers cannot use up file descriptors or memory.

    Args:
        app: the application.
        listener: a listening socket, which is closed together with the server.
        tls: the TLS context; None for unencrypted connections.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, *, tls: ssl.SSLContext | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Caller,
            loop="asyncio",
            ws="none",
            lifespan="off",
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_CLOSING_S,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="web-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Accept no more connections, close all, and wait until the thread has ended."""
        self._server.should_exit = True
        self._thread.join()


class _Server(uvicorn.Server):
    """Accepts a limited number of connections at a time; uvicorn would accept all."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting connections."""
        (listener,) = sockets or []
        listener.setblocking(False)
        self._strangers = asyncio.Semaphore(MOST_STRANGERS)
        self._greetings: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(listener))
        self.servers = []
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections and close all."""
        tasks = [self._accepting, *self._greetings]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for caller in list(self.server_state.connections):
            caller.transport.abort()
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._strangers.acquire()
            try:
                stream, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:  # out of file descriptors
                self._strangers.release()
                log.warning("a call cannot be taken (%s); trying again", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            greeting = asyncio.create_task(self._greet(stream))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, stream: socket.socket) -> None:
        """Wait until a caller is welcomed or disconnects; hang up if that takes too long."""
        caller = Caller(self.config, self.server_state, {})
        loop, is_settled = asyncio.get_running_loop(), False
        try:
            async with asyncio.timeout(STRANGER_S):
                await loop.connect_accepted_socket(lambda: caller, stream, ssl=self.config.ssl)
                is_settled = await caller.is_settled.wait()
        except OSError as error:  # includes TimeoutError
            log.debug("a caller was hung up on: %r", error)
        finally:
            if not is_settled:
                caller.hang_up()
            self._strangers.release()
