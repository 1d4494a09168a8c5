"""Web application for direct transfers: sends states to callers with the key, receives sums."""

import asyncio
import logging
from typing import Any, Final, Protocol

from blake3 import blake3
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from metafleet.contracts.codec import Encoded
from metafleet.contracts.direct import (
    CHUNK_BYTES,
    PROOF_HEADER,
    TIMEOUT_S,
    authorization,
    is_same,
    proof,
)
from metafleet.contracts.milestones import Milestones

log = logging.getLogger(__name__)

_PATH: Final = "/{n_bytes:int}/{key:path}"
_YES, _NO, _UNKNOWN = 204, 404, 401


class Shelf(Protocol):
    """Holds the blobs. The server's thread calls it."""

    def find_offered(self, key: str, n_bytes: int) -> Encoded | None:
        """Return a blob of that length that workers may fetch, or None."""
        ...

    def is_expected(self, key: str, n_bytes: int) -> bool:
        """Return whether a blob of that length would be accepted."""
        ...

    def deliver(self, key: str, data: bytearray, digest: str) -> bool:
        """Accept a blob. Return False if it is no longer expected."""
        ...


class DirectApp:
    """The web application that serves blobs and receives blobs.

    Args:
        shelf: the served and the received blobs. An unexpected blob is refused before memory is
            allocated for it.
        signing_key: the key that callers must know.
    """

    def __init__(self, shelf: Shelf, signing_key: str) -> None:
        self._shelf, self._key = shelf, signing_key
        self._foreign_callers = Milestones()
        self._app = Starlette(
            routes=[
                Route(f"/states{_PATH}", self._send, methods=["GET"]),
                Route(f"/sums{_PATH}", self._ask, methods=["HEAD"]),
                Route(f"/sums{_PATH}", self._take, methods=["PUT"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a caller that knows the key; hang up on any other."""
        method, target = scope["method"], scope["raw_path"].decode("latin-1")
        found = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if not is_same(found, authorization(self._key, method, target)):
            self._log_foreign_caller(scope["client"][0])
            await Response(None, _UNKNOWN, {"Connection": "close"})(scope, receive, send)
            return
        scope["state"]["caller"].welcome()
        header = (PROOF_HEADER.encode(), proof(self._key, method, target).encode())

        async def send_with_proof(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_proof)
        except (TimeoutError, ClientDisconnect):
            scope["state"]["caller"].hang_up()
            while (await receive())["type"] != "http.disconnect":
                pass

    def _log_foreign_caller(self, host: str) -> None:
        n = self._foreign_callers.count(host)
        if n:
            times = f", {n} times by now" if n > 1 else ""
            log.warning("a caller at %s does not know the signing key: hung up%s", host, times)

    async def _send(self, request: Request) -> Response:
        found = self._shelf.find_offered(*_named(request))
        return Response(None, _NO) if found is None else _Blob(found)

    async def _ask(self, request: Request) -> Response:
        return Response(None, _YES if self._shelf.is_expected(*_named(request)) else _NO)

    async def _take(self, request: Request) -> Response:
        key, n_bytes = _named(request)
        is_whole = request.headers.get("content-length") == str(n_bytes)
        if not is_whole or not self._shelf.is_expected(key, n_bytes):
            return Response(None, _NO)
        data, digest = await _receive(request, n_bytes)
        return Response(None, _YES if self._shelf.deliver(key, data, digest) else _NO)


class _Blob(Response):
    """Sends encoded tensors without copying them."""

    def __init__(self, encoded: Encoded) -> None:
        super().__init__(None, headers={"Content-Length": str(encoded.n_bytes)})
        self._encoded = encoded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT_S) as limit:
            for piece in self._encoded.pieces:
                view = piece.cast("B")
                for begin in range(0, view.nbytes, CHUNK_BYTES):
                    chunk = view[begin : begin + CHUNK_BYTES]
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    limit.reschedule(loop.time() + TIMEOUT_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _named(request: Request) -> tuple[str, int]:
    return request.path_params["key"], request.path_params["n_bytes"]


async def _receive(request: Request, n_bytes: int) -> tuple[bytearray, str]:
    """Receive a body. A thread hashes the received part while the rest is in transit."""
    loop, data, hasher = asyncio.get_running_loop(), bytearray(n_bytes), blake3()
    view, end, n_hashed = memoryview(data), 0, 0
    hashing: asyncio.Future[Any] = loop.create_future()
    hashing.set_result(None)
    async with asyncio.timeout(TIMEOUT_S) as limit:
        async for piece in request.stream():
            view[end : end + len(piece)] = piece
            end += len(piece)
            if hashing.done() and end - n_hashed >= CHUNK_BYTES:
                hashing = loop.run_in_executor(None, hasher.update, view[n_hashed:end])
                n_hashed = end
            limit.reschedule(loop.time() + TIMEOUT_S)
        await hashing
        if end - n_hashed >= CHUNK_BYTES:
            await loop.run_in_executor(None, hasher.update, view[n_hashed:])
        else:
            hasher.update(view[n_hashed:])
    return data, hasher.hexdigest()
