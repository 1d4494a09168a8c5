"""`metafleet workers`: list the workers of the fleet."""

from dataclasses import asdict

import click
from rich.table import Table

from metafleet.contracts.connections import open_broker
from metafleet.contracts.presence import WorkerInfo, list_workers
from metafleet.orchestrator.cli.context import echo_json, load_settings
from metafleet.orchestrator.cli.tables import make_table, show_table
from metafleet.orchestrator.engine.incompatible_workers import find_mismatch
from metafleet.orchestrator.reporting.output import hint, notify

_HINT = (
    "no workers; start some with `metafleet up --workers 2`, or on any machine that reaches Redis "
    "with `metafleet worker`"
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def workers(as_json: bool) -> None:
    """Show the workers whose last heartbeat is at most ten minutes old.

    \b
    metafleet workers --json
    """
    settings = load_settings()
    with open_broker(settings) as client:
        found = list_workers(client)
    if as_json:
        echo_json([asdict(worker) | {"is_alive": worker.is_alive} for worker in found])
    elif found:
        show_table(_table(found))
        for worker in found:
            if worker.is_alive and (why := find_mismatch(worker, settings.signing_key)):
                notify(f"worker {worker.name} {why}")
    else:
        click.echo(hint(_HINT))


def _table(found: list[WorkerInfo]) -> Table:
    headings = ("worker", "pid", "device", "queues", "version", "protocol", "last seen")
    table = make_table(*headings, fold="worker", least_width=10)
    for worker in found:
        table.add_row(
            worker.name,
            str(worker.pid),
            worker.device,
            ", ".join(worker.queues),
            worker.version,
            str(worker.protocol),
            f"{worker.last_seen_s:.0f} s ago",
            style=None if worker.is_alive else "dim",
        )
    return table
