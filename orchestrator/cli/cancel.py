"""`metafleet runs cancel`: stop a queued or running run on any host."""

import click

from metafleet.db.records import RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_records


@click.command("cancel")
@click.argument("run", type=RunName())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cancel(run: str, as_json: bool) -> None:
    """Stop RUN on any host: at once if it is queued, within seconds if it is running.

    The checkpoints of RUN stay. `metafleet runs resume` continues RUN from its last checkpoint.

    \b
    metafleet runs cancel latest
    """
    with open_records(load_settings(), run) as database, database.session() as session:
        runs = RunRepository(session)
        before = runs.cancel(runs.get(run).id)
    if as_json:
        echo_json(
            {"run_id": before.id, "uid": before.uid, "was": before.status, "owner": before.owner}
        )
    elif before.status is RunStatus.CANCELLED:
        click.echo(f"run {before.id} was already cancelled")
    elif before.status is RunStatus.RUNNING:
        click.echo(
            f"run {before.id} is cancelled; {before.owner or 'its process'} stops within seconds"
        )
    else:
        click.echo(f"run {before.id} is cancelled; it was {before.status}")
