"""The web application: its pages, its events, and what it answers when something fails."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.errors import (
    ConfigError,
    DatabaseUnavailableError,
    DataMissingError,
    MetafleetError,
    RunNotFoundError,
)
from metafleet.orchestrator.dashboard import actions, sign_in
from metafleet.orchestrator.dashboard.access import Access
from metafleet.orchestrator.dashboard.fleet import FleetWatch
from metafleet.orchestrator.dashboard.guard import Guard, HostNames, is_local_host
from metafleet.orchestrator.dashboard.hub import Hub
from metafleet.orchestrator.dashboard.pages import (
    compare,
    data,
    episodes,
    fleet,
    run,
    run_charts,
    run_fleet,
    runs,
    try_it,
)
from metafleet.orchestrator.dashboard.rendering import FOLDER
from metafleet.orchestrator.dashboard.serving import Address, DashboardServer, served_by
from metafleet.orchestrator.dashboard.site import Site, site_of
from metafleet.orchestrator.dashboard.timelines import Timelines
from metafleet.orchestrator.dashboard.trying.trial import Trial
from metafleet.orchestrator.redraw.drawer import Drawer

NAVIGATION: Final = (("Runs", "/"), ("Fleet", "/fleet"), ("Data", "/data"))
"""Label and address of each page in the navigation."""

_LEAST_COMPRESSED_BYTES: Final = 1024
_STATUS: Final[tuple[tuple[type[MetafleetError], int], ...]] = (
    (RunNotFoundError, 404),
    (DataMissingError, 404),
    (ConfigError, 400),
    (DatabaseUnavailableError, 503),
    (MetafleetError, 500),
)


def make_site(
    database: Database, settings: Settings, *, password: str = "", trial: Trial | None = None
) -> Site:
    """Return the site over an open database, with the page "Try it" if there is a trial."""
    watch = FleetWatch(settings)
    return Site(
        database=database,
        settings=settings,
        access=Access(password),
        fleet=watch,
        hub=Hub(database, watch),
        timelines=Timelines(),
        navigation=NAVIGATION if trial is None else (*NAVIGATION, ("Try it", "/try")),
        trial=trial,
    )


def serve_dashboard(
    database: Database,
    settings: Settings,
    address: Address,
    notify: Callable[[str], None],
    *,
    trial: Trial | None = None,
) -> None:
    """Serve until a signal arrives.

    Raises:
        ConfigError: other machines could reach the address and there is no password, the address
            cannot be used, or the certificate cannot be read.
    """
    server, listener = _make_server(database, settings, address, trial)
    with listener:
        notify(f"dashboard: {address.url(listener.getsockname()[1])}; Ctrl-C ends it")
        server.run(sockets=[listener])


@contextmanager
def dashboard_beside(database: Database, settings: Settings, address: Address) -> Iterator[str]:
    """Serve in a thread for as long as the block runs; raise as ``serve_dashboard``.

    Yields:
        The dashboard's URL.
    """
    server, listener = _make_server(database, settings, address)
    with served_by(server, listener):
        yield address.url(listener.getsockname()[1])


def _make_server(
    database: Database, settings: Settings, address: Address, trial: Trial | None = None
) -> tuple[DashboardServer, socket.socket]:
    if not is_local_host(address.host) and not settings.dashboard_password:
        raise ConfigError(
            f"--host {address.host} lets other machines reach the dashboard, which has no "
            "password; set METAFLEET_DASHBOARD_PASSWORD, or leave out --host"
        )
    site = make_site(database, settings, password=settings.dashboard_password, trial=trial)
    app = make_app(site, HostNames.of(address.host, settings.dashboard_hosts))
    tls = address.tls_options()
    return DashboardServer(app, site.hub, site.trial, **tls), address.listen()


def make_app(site: Site, hosts: HostNames) -> Starlette:
    """Return the application of a site, which answers to some host names."""
    drawer = Drawer(site.settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        site.fleet.start()
        site.hub.start()
        yield
        drawer.close()
        site.hub.close()
        site.fleet.close()

    routes: list[BaseRoute] = [
        *runs.ROUTES,
        *run_charts.ROUTES,
        *episodes.ROUTES,
        *run_fleet.ROUTES,
        *run.ROUTES,
        *fleet.ROUTES,
        *compare.ROUTES,
        *data.ROUTES,
        *(try_it.ROUTES if site.trial else ()),
        *actions.ROUTES,
        *sign_in.ROUTES,
        Route("/events", _events),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, hosts=hosts, access=site.access),
            Middleware(GZipMiddleware, minimum_size=_LEAST_COMPRESSED_BYTES),
        ],
        exception_handlers={MetafleetError: _failed, HTTPException: _not_served},
        lifespan=lifespan,
    )
    app.state.site, app.state.drawer = site, drawer
    return app


async def _events(request: Request) -> Response:
    stream = site_of(request).hub.stream()
    return StreamingResponse(stream, media_type="text/event-stream")


def _failed(request: Request, error: Exception) -> Response:
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    return _answer(request, str(error), status)


def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "there is no such page" if error.status_code == 404 else str(error.detail)
    return _answer(request, text, error.status_code)


def _answer(request: Request, text: str, status: int, **values: Any) -> Response:
    if request.url.path.endswith(".json"):
        return PlainTextResponse(f"{text}\n", status)
    return site_of(request).page(request, "failed.html", status=status, text=text, **values)
