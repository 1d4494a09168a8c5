"""A web application on a thread of this process: uvicorn, with limits for unknown callers."""

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
"""How long a caller may take until the application welcomes it, TLS included."""

MOST_STRANGERS: Final = 64
"""Callers that the application has not welcomed yet; the next wait in the backlog."""

BACKLOG: Final = 512

_LONGEST_GREETING_BYTES: Final = 2**16
_PAUSE_S: Final = 0.5
"""How long no call is taken when the process has no room for one."""

_IDLE_S: Final = 3600
"""How long a caller may be silent between two requests; it connects again when it must."""

_CLOSING_S: Final = 5


class Caller(HttpToolsProtocol):
    """A connection. The application finds it as ``scope["state"]["caller"]``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app_state = {"caller": self}
        self.is_settled = asyncio.Event()
        """Set when the caller was welcomed or is gone."""
        self._n_bytes = 0

    def welcome(self) -> None:
        """Let it stay: it has proved who it is."""
        self.is_settled.set()

    def hang_up(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what came; of a stranger, so much and no more."""
        if not self.is_settled.is_set():
            self._n_bytes += len(data)
            if self._n_bytes > _LONGEST_GREETING_BYTES:
                self.hang_up()
                return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is gone."""
        self.is_settled.set()
        super().connection_lost(exc)


class WebServer:
    """Serves an application until it is closed.

    A caller that the application has not welcomed within seconds is hung up on; at most 64 such
    callers have a connection at a time. So strangers cannot use up this process's files or memory.

    Args:
        app: the application; it must call ``welcome`` of each connection that may stay.
        listener: a socket that listens; closed with the server.
        tls: encrypts connections; None does not.
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
        """Take no more calls, hang up, and wait until the thread has ended."""
        self._server.should_exit = True
        self._thread.join()


class _Server(uvicorn.Server):
    """Takes calls itself, a limited number at a time; uvicorn would take all that come."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take calls."""
        (listener,) = sockets or []
        listener.setblocking(False)
        self._strangers = asyncio.Semaphore(MOST_STRANGERS)
        self._greetings: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(listener))
        self.servers = []
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more calls and hang up."""
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
            except OSError as error:  # no more files
                self._strangers.release()
                log.warning("a call cannot be taken (%s); trying again", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            greeting = asyncio.create_task(self._greet(stream))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, stream: socket.socket) -> None:
        """Wait until a caller is welcomed or gone; hang up if that takes too long."""
        caller = Caller(self.config, self.server_state, {})
        loop, is_settled = asyncio.get_running_loop(), False
        try:
            async with asyncio.timeout(STRANGER_S):
                await loop.connect_accepted_socket(lambda: caller, stream, ssl=self.config.ssl)
                is_settled = await caller.is_settled.wait()
        except OSError as error:  # a time-out, too
            log.debug("a caller was hung up on: %r", error)
        finally:
            if not is_settled:
                caller.hang_up()
            self._strangers.release()
