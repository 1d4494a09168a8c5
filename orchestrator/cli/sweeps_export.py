"""`metafleet sweeps export`: a file for optuna-dashboard."""

from pathlib import Path

import click

from metafleet.db.repositories import SweepRepository
from metafleet.orchestrator.cli.arguments import OutputFile
from metafleet.orchestrator.cli.context import load_settings, open_database
from metafleet.orchestrator.sweeps.pruning import read_curves
from metafleet.orchestrator.sweeps.study import export_study
from metafleet.orchestrator.sweeps.sweep import Sweep


@click.command("export")
@click.argument("name")
@click.argument("file", type=OutputFile())
def export(name: str, file: Path) -> None:
    """Write the sweep NAME to a new SQLite file for optuna-dashboard.

    The file is a copy. Metafleet does not read it.

    \b
    metafleet sweeps export sinusoid-maml-sweep sweep.db
    """
    settings = load_settings()
    with open_database(settings) as database:
        with database.session(read_only=True) as session:
            record = SweepRepository(session).get(name)
        sweep = Sweep.of_record(database, settings, record)
        trials = sweep.trials()
        export_study(file, sweep.plan, trials, read_curves(database, trials))
    click.echo(f"{file}: {len(trials)} trials; show them with `optuna-dashboard sqlite:///{file}`")
