"""`metafleet sweeps cancel`: stop a sweep and its open trials."""

import click

from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunRepository, SweepRepository
from metafleet.orchestrator.cli.context import load_settings, open_database
from metafleet.orchestrator.reporting.figures import counted


@click.command("cancel")
@click.argument("name")
def cancel(name: str) -> None:
    """Stop the sweep NAME and its open trials, wherever they are executed.

    The ended trials stay. To continue the sweep, repeat the command that began it. The cancelled
    trials are not repeated.

    \b
    metafleet sweeps cancel sinusoid-maml-sweep
    """
    with open_database(load_settings()) as database, database.session() as session:
        sweeps, runs = SweepRepository(session), RunRepository(session)
        sweep = sweeps.get(name)
        before = sweeps.cancel(sweep.id)
        is_open = [run for run in runs.list_of_sweep(sweep.id) if not run.status.is_final]
        for run in is_open:
            runs.cancel(run.id)
    if before.status is RunStatus.CANCELLED:
        click.echo(f"sweep {name} was already cancelled")
        return
    click.echo(f"sweep {name} is cancelled, and {counted(len(is_open), 'open trial')} with it")
