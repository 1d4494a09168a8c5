"""`metafleet sweeps draw`: a picture of a sweep."""

from pathlib import Path

import click

from metafleet.db.repositories import SweepRepository
from metafleet.orchestrator.cli.arguments import OutputFile
from metafleet.orchestrator.cli.context import load_settings, open_database
from metafleet.orchestrator.records.selecting import split_keys
from metafleet.orchestrator.sweeps.pictures import KINDS, draw_sweep
from metafleet.orchestrator.sweeps.sweep import Sweep


@click.command("draw")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="parallel",
    show_default=True,
    help="A line for each trial through an axis for each key, or a contour over two keys.",
)
@click.option(
    "--keys",
    default="",
    metavar="A,B",
    help="The keys to draw. Default: all, or the two most important ones in a contour.",
)
@click.option(
    "--output", type=OutputFile(".png"), help="The file to write (.png). Default: NAME-KIND.png."
)
def draw(name: str, *, kind: str, keys: str, output: Path | None) -> None:
    """Draw the finished trials of the sweep NAME.

    \b
    metafleet sweeps draw sinusoid-maml-sweep --kind contour --output contour.png
    """
    settings = load_settings()
    with open_database(settings) as database:
        with database.session(read_only=True) as session:
            record = SweepRepository(session).get(name)
        sweep = Sweep.of_record(database, settings, record)
        path = output or Path(f"{name}-{kind}.png")
        draw_sweep(path, sweep.plan, sweep.trials(), kind=kind, keys=split_keys(keys))
    click.echo(str(path))
