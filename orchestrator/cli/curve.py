"""`metafleet runs curve`: draw the learning curve."""

from pathlib import Path

import click

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.orchestrator.cli.arguments import OutputFile, RunName
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.records.run_view import RunView
from metafleet.orchestrator.runs.curve import draw_learning_curve


@click.command("curve")
@click.argument("run", type=RunName())
@click.option("--output", type=OutputFile(".png"), help="The file to write (.png).")
def curve(run: str, output: Path | None) -> None:
    """Draw RUN's learning curve, by default into its folder of checkpoints.

    \b
    metafleet runs curve latest --output curve.png
    """
    settings = load_settings()
    with open_records(settings, run) as database:
        click.echo(str(write_curve(database, settings, run, output)))


def write_curve(
    database: Database, settings: Settings, ref: str, output: Path | None = None
) -> Path:
    """Draw a run's learning curve and return its path.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigError: the run has no steps yet, or matplotlib is not installed.
    """
    with database.session(read_only=True) as session:
        view = RunView.read(session, ref)
    path = output or settings.runs_dir / view.run.uid / "curve.png"
    draw_learning_curve(path, view.run, view.steps, view.evaluations)
    return path
