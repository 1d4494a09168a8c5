"""`metafleet serve`: execute queued runs."""

import time

import click

from metafleet.orchestrator.cli.broker import require_broker
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    open_database,
)
from metafleet.orchestrator.service.server import Server, ServerEvent
from metafleet.tracking.targets import check_targets


@click.command()
@click.option(
    "--max-runs",
    type=click.IntRange(min=1, max=64),
    default=2,
    show_default=True,
    help="Runs executed at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
def serve(max_runs: int, as_json: bool) -> None:
    """Execute queued runs until Ctrl-C. Several servers can share one database.

    The server takes the run with the highest priority first; of runs with the same priority, it
    takes the oldest first. It executes each run in a process of its own. When a server dies,
    another server continues the runs of the dead server from their checkpoints. Servers on several
    hosts must share METAFLEET_HOME.

    \b
    metafleet serve --max-runs 4
    """
    settings = load_settings()
    check_targets(settings.track)
    require_broker(settings)
    with open_database(settings) as database:
        report = _report_json if as_json else _report
        Server(database, load_settings, max_runs=max_runs, report=report).run()


def _report(event: ServerEvent) -> None:
    subject = f"run {event.run.id} ({event.run.name}) " if event.run else ""
    click.echo(f"{time.strftime('%H:%M:%S')} {subject}{event.text}")


def _report_json(event: ServerEvent) -> None:
    run = event.run
    about = {"run_id": run.id, "uid": run.uid, "name": run.name, "epoch": run.epoch} if run else {}
    if event.pid:
        about["pid"] = event.pid
    echo_json({"event": event.kind, **about, "text": event.text, "at": time.time()})
