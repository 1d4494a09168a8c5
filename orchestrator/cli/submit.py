"""`metafleet submit`: run an experiment, once for each seed."""

from collections.abc import Sequence
from pathlib import Path

import click

from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord
from experiments import find_experiment
from metafleet.data.registry import open_source
from metafleet.errors import MetafleetError
from orchestrator.cli.context import load_settings, notify, open_database, require_broker
from orchestrator.cli.execution import execute_watched, show_report
from orchestrator.cli.figures import parse_seeds
from orchestrator.config import ExperimentConfig
from orchestrator.launch import create_runs


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key, such as outer.lr=0.01; may be repeated.",
)
@click.option("--seeds", metavar="1,2,3", help="One run for each seed, instead of the file's.")
@click.option("--name", help="Name of the runs; the experiment's name by default.")
@click.option(
    "--in-process", is_flag=True, help="Compute here, without Redis and workers; the same bits."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run, as it ends.")
def submit(
    file: Path,
    overrides: Sequence[str],
    seeds: str | None,
    name: str | None,
    in_process: bool,
    as_json: bool,
) -> None:
    r"""Run the experiment that FILE describes: a path, or the name of one that came along.

    \b
    metafleet submit experiments/sinusoid-maml.toml --set outer.steps=500
    metafleet submit omniglot-protonet --seeds 1,2,3
    """
    settings = load_settings()
    config = ExperimentConfig.load(
        find_experiment(file), overrides, allowed_packages=settings.allowed_packages
    )
    wanted = parse_seeds(seeds) if seeds else (config.seed,)
    for seed in wanted:
        config.with_seed(seed)
    source = open_source(config.data, settings.data_dir)
    config.check_source(source, allowed_packages=settings.allowed_packages)
    if not in_process:
        require_broker(settings)
    with open_database(settings) as database:
        runs = create_runs(database, settings, config, seeds=wanted, name=name)
        _run_all(database, settings, runs, in_process=in_process, as_json=as_json)


def _run_all(
    database: Database,
    settings: Settings,
    runs: Sequence[RunRecord],
    *,
    in_process: bool,
    as_json: bool,
) -> None:
    for index, run in enumerate(runs):
        try:
            report = execute_watched(database, settings, run, in_process=in_process)
        except (MetafleetError, KeyboardInterrupt):
            left = ", ".join(str(other.id) for other in runs[index + 1 :])
            if left:
                notify(f"not begun: runs {left}; begin them with `metafleet runs resume ID`")
            raise
        show_report(run, report, as_json=as_json)
