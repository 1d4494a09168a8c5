"""`metafleet worker`: one worker in the foreground, started again when it dies."""

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from metafleet.contracts.connections import require_broker_url
from metafleet.contracts.settings import DEVICES
from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.embedded.child import Child
from metafleet.orchestrator.embedded.commands import lone_worker_spec
from metafleet.orchestrator.reporting.output import notify

_LOOK_EVERY_S: Final = 0.2
_LEFT: Final = 0
_CANNOT_START: Final = (2, 78)
"""Exit statuses of a worker that would fail again: options or settings are wrong."""


@click.command()
@click.option(
    "--device", type=click.Choice(DEVICES), help="What it computes on; default METAFLEET_DEVICE."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=1024),
    help="Jobs at a time; default one for each CPU, or 1 on a GPU.",
)
@click.option(
    "--pool",
    type=click.Choice(["solo", "prefork"]),
    help="One process, or one for each job; default solo for 1 job at a time.",
)
@click.option("--name", help="Its name in lists, before the host's; default by device and process.")
@click.pass_context
def worker(
    ctx: click.Context,
    device: str | None,
    concurrency: int | None,
    pool: str | None,
    name: str | None,
) -> None:
    """Run a worker for the Redis of the settings, until Ctrl-C.

    It listens to the queue of its device, and is started again when it dies, such as by a job that
    hangs. Ctrl-C or SIGTERM lets it end its job first; a second one does not.

    \b
    metafleet worker --concurrency 8
    """
    settings = load_settings()
    require_broker_url(settings)
    child = Child(
        lone_worker_spec(
            replace(settings, device=device or settings.device),
            name=name,
            concurrency=concurrency,
            pool=pool,
            folder=Path.cwd(),
        )
    )
    try:
        ctx.exit(_run(child))
    finally:
        child.wait_or_kill(time.monotonic())


def _run(child: Child) -> int:
    """Keep the worker running until somebody stops it; returns the exit status."""
    try:
        child.start()
        while True:
            notice = child.tick()
            if child.last_status in (_LEFT, *_CANNOT_START):  # asked to leave, or told why it can't
                return child.last_status
            if notice is not None:
                notify(notice)
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        notify("stopping when its jobs are done; once more to stop at once")
        child.ask_to_stop()
        status = child.wait()
        # one that was still starting knows of no job, and dies of the signal
        return _LEFT if status in (None, _LEFT, -signal.SIGTERM) else abs(status)
