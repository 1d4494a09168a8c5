"""Serves the metrics over HTTP until a signal ends it."""

import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from metafleet.contracts.settings import Settings
from metafleet.orchestrator.monitoring.metrics import FleetCollector
from metafleet.orchestrator.monitoring.monitor import Monitor
from metafleet.orchestrator.web.listening import listen

_CLOSING_S: Final = 3
_INDEX: Final = """\
/metrics   metrics of fleet and runs, for Prometheus
/demand    open shards as JSON, for an autoscaler
/healthz   whether this process answers
"""


def make_app(monitor: Monitor) -> Starlette:
    """Return the application. Its routes run in threads, because they read Redis and a database."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(monitor))

    def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def demand(request: Request) -> Response:
        found = monitor.look()
        if found.fleet is None:  # an autoscaler keeps the number of workers on an error
            return JSONResponse({"error": found.fleet_problem}, status_code=503)
        return JSONResponse(
            {
                "open_shards": found.fleet.open_shards,
                "smoothed": round(found.smooth_demand, 3),
                "worker_processes": sum(worker.processes for worker in found.fleet.alive),
            }
        )

    def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def index(request: Request) -> Response:
        return PlainTextResponse(_INDEX)

    routes = {"/": index, "/metrics": metrics, "/demand": demand, "/healthz": healthz}
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])


def serve_metrics(settings: Settings, *, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve the metrics until SIGINT or SIGTERM; ``tell`` receives the address.

    Raises:
        ConfigError: the address cannot be used.
    """
    listener = listen(host, port)
    monitor = Monitor(settings)
    config = uvicorn.Config(
        make_app(monitor),
        loop="asyncio",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSING_S,
    )
    try:
        tell(f"metrics at http://{_address(listener)}/metrics, until Ctrl-C")
        uvicorn.Server(config).run([listener])
    finally:
        monitor.close()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
