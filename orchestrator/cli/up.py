"""`metafleet up`: run the embedded stack in the foreground."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import click

from metafleet.contracts.connections import connect, redis_errors
from metafleet.contracts.presence import list_workers
from metafleet.contracts.settings import Settings
from metafleet.errors import FleetError, MetafleetError
from metafleet.orchestrator.cli.context import load_settings, open_database
from metafleet.orchestrator.cli.dashboard import import_dashboard
from metafleet.orchestrator.embedded.stack import EmbeddedStack, StackOrder
from metafleet.orchestrator.embedded.stack_file import require_no_stack
from metafleet.orchestrator.reporting.output import hint, notify

_LOOK_EVERY_S = 2.0


@click.command()
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=0, max=1024),
    default=lambda: os.cpu_count() or 2,
    show_default="one per CPU",
    help="Number of worker processes; 0 if you start workers yourself.",
)
@click.option("--flower", is_flag=True, help="Also run Flower, a web page with workers and jobs.")
@click.option("--dashboard", is_flag=True, help="Also serve the dashboard, as `dashboard` does.")
def up(n_workers: int, flower: bool, dashboard: bool) -> None:
    """Run a private Redis server and workers on this machine until Ctrl-C.

    \b
    metafleet up --workers 2 --dashboard
    """
    settings = load_settings()
    order = StackOrder(n_workers, settings.home / "logs", is_public=True, flower=flower)
    require_no_stack(settings.stack_file)
    if dashboard:
        import_dashboard()  # before anything starts: a package may be missing
    notify("starting; Ctrl-C stops everything")
    try:
        with EmbeddedStack(settings, order, notify) as stack, ExitStack() as others:
            _introduce(stack, settings)
            if dashboard:
                click.echo(f"dashboard: {others.enter_context(_dashboard(stack))}")
            _watch(stack, n_workers)
    finally:
        notify("stopped")


@contextmanager
def _dashboard(stack: EmbeddedStack) -> Iterator[str]:
    """Serve the dashboard on its usual port, or on a free one if that is in use."""
    settings = stack.settings
    if stack.flower:
        settings = replace(settings, flower_url=stack.flower[0])
    served = import_dashboard()
    address = served.Address(is_fixed=False)
    with (
        open_database(settings) as database,
        served.dashboard_beside(database, settings, address) as url,
    ):
        yield url


def _introduce(stack: EmbeddedStack, settings: Settings) -> None:
    click.echo(f"home {settings.home}, logs in {settings.home / 'logs'}")
    click.echo(hint("other terminals find this stack by themselves: `metafleet submit FILE`"))
    if stack.flower:
        url, password = stack.flower
        click.echo(f"Flower: {url} (user metafleet, password {password}, shown this once)")


def _watch(stack: EmbeddedStack, n_workers: int) -> None:
    """Print the number of workers whenever it changes."""
    url = stack.settings.broker_url
    assert url is not None
    last_alive = -1
    with connect(url) as client:
        while not stack.wait(_LOOK_EVERY_S if last_alive == n_workers else 0.3):
            try:
                with redis_errors(url):
                    alive = sum(worker.is_alive for worker in list_workers(client))
            except MetafleetError:
                continue  # the supervisor reports that the server died, and restarts it
            if alive != last_alive:
                last_alive = alive
                click.echo(f"{time.strftime('%H:%M:%S')} {_describe(alive, n_workers)}")
    if not stack.was_told_to_stop:
        raise FleetError("the stack ended by itself; see supervisor.log among its logs")


def _describe(alive: int, n_workers: int) -> str:
    if alive > n_workers:  # others joined this server
        return f"{alive} workers are ready, {n_workers} of them started here"
    return f"{alive} of {n_workers} workers are ready"
