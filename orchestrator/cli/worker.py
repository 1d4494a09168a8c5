"""`metafleet worker`: run one worker in the foreground, and restart it when it dies."""

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
"""Exit statuses of a worker whose options or settings are wrong: a restart would not help."""


@click.command()
@click.option(
    "--device", type=click.Choice(DEVICES), help="Device to compute on; default: METAFLEET_DEVICE."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=1024),
    help="Jobs at a time; default: one per CPU, or 1 on a GPU.",
)
@click.option(
    "--pool",
    type=click.Choice(["solo", "prefork"]),
    help="solo: one process; prefork: one process per job. Default: solo for 1 job at a time.",
)
@click.option(
    "--name", help="Name of the worker. `@` and the host's name are appended. Default: DEVICE-PID."
)
@click.pass_context
def worker(
    ctx: click.Context,
    device: str | None,
    concurrency: int | None,
    pool: str | None,
    name: str | None,
) -> None:
    """Run a worker for the Redis of the settings until Ctrl-C.

    The worker takes jobs from the queue of its device. If the worker dies (for example, because a
    job hangs), this command restarts it. After Ctrl-C or SIGTERM, the worker finishes its current
    job and then stops. A second signal stops the worker at once.

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
    """Keep the worker running until it is stopped; return the exit status."""
    try:
        child.start()
        while True:
            notice = child.tick()
            if child.last_status in (_LEFT, *_CANNOT_START):  # it was stopped, or cannot start
                return child.last_status
            if notice is not None:
                notify(notice)
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        notify("stopping when its jobs are done; once more to stop at once")
        child.ask_to_stop()
        status = child.wait()
        # a worker that is still starting has no job, and dies of the signal
        return _LEFT if status in (None, _LEFT, -signal.SIGTERM) else abs(status)
