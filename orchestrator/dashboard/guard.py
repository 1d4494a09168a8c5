"""Checks each request before any page sees it, and adds headers that limit what pages may do."""

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metafleet.orchestrator.dashboard.access import COOKIE, Access

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS: Final = ("/sign-in", "/static/")
"""Addresses that need no sign-in."""
_READING: Final = ("GET", "HEAD")
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class HostNames:
    """The host names under which the dashboard answers.

    A page of another site can let its own name point to this machine and then read what we answer
    (DNS rebinding). So names that are not ours are refused. Addresses in numbers are accepted if
    the dashboard listens on them: no name can be made to look like one.
    """

    names: frozenset[str]
    any_address: bool

    @classmethod
    def of(cls, host: str, others: Collection[str] = ()) -> "HostNames":
        """Return the names for a server that listens at ``host``."""
        is_local = is_local_host(host)
        own = () if is_local else (socket.gethostname(), socket.getfqdn())
        names = (*LOCAL_NAMES, host, *own, *others)
        return cls(frozenset(name.casefold() for name in names), any_address=not is_local)

    def accepts(self, host_header: str) -> bool:
        """Return whether a Host header names this dashboard."""
        try:
            name = (urlsplit(f"//{host_header}").hostname or "").casefold()
        except ValueError:
            return False
        return name in self.names or (self.any_address and _is_address(name))


def is_local_host(host: str) -> bool:
    """Return whether only this machine reaches a server that listens at ``host``."""
    if host.casefold() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware: refuses foreign hosts and origins, asks for a sign-in, adds headers."""

    def __init__(self, app: ASGIApp, *, hosts: HostNames, access: Access) -> None:
        self._app, self._hosts, self._access = app, hosts, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._hosts.accepts(host):
            return PlainTextResponse(
                "this dashboard has another host name; add yours to METAFLEET_DASHBOARD_HOSTS\n",
                421,
            )
        origin = headers.get("origin")
        is_foreign = origin is not None and urlsplit(origin).netloc != host
        if scope["method"] not in _READING and is_foreign:
            return PlainTextResponse("the form of another site is refused\n", 403)
        return self._sign_in_first(scope, headers)

    def _sign_in_first(self, scope: Scope, headers: Headers) -> Response | None:
        path = scope["path"]
        if not self._access.password or path == OPEN_PATHS[0] or path.startswith(OPEN_PATHS[1]):
            return None
        if self._access.is_signed_in(cookie_parser(headers.get("cookie", "")).get(COOKIE, "")):
            return None
        if scope["method"] != "GET" or path == "/events" or path.endswith(".json"):
            return PlainTextResponse("sign in first\n", 401)
        query = scope["query_string"].decode("latin-1")
        target = quote(path + (f"?{query}" if query else ""), safe="")
        return RedirectResponse(f"/sign-in?next={target}", 303)
