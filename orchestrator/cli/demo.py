"""`metafleet demo`: from data to a tested model on this machine, in a few minutes."""

import time

import click
from rich.console import Console

from metafleet.contracts.connections import connect, redis_errors
from metafleet.contracts.presence import list_workers
from metafleet.contracts.settings import Settings
from metafleet.data.registry import open_data
from metafleet.db.engine import Database
from metafleet.errors import FleetError
from metafleet.experiments import FOLDER
from metafleet.orchestrator.cli.context import load_settings, open_database
from metafleet.orchestrator.cli.curve import write_curve
from metafleet.orchestrator.cli.execution import execute_watched, show_report
from metafleet.orchestrator.cli.lazy_group import LazyCommand, lazy_group
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.section import MOST
from metafleet.orchestrator.embedded.stack import EmbeddedStack, StackOrder
from metafleet.orchestrator.reporting.output import notify, program
from metafleet.orchestrator.runs.launch import create_runs
from metafleet.orchestrator.runs.run_session import ExecutionOptions

_WORKERS_WITHIN_S = 120.0


@click.group(
    invoke_without_command=True,
    cls=lazy_group(
        {
            "speech": LazyCommand(
                "metafleet.orchestrator.cli.demo_speech:speech",
                "From a folder of sounds to a classifier, without a run.",
            )
        }
    ),
)
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=1, max=64),
    default=2,
    show_default=True,
    help="Number of worker processes.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1, max=MOST),
    help="Number of outer steps; default: that of demo.toml.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one key of demo.toml."
)
@click.pass_context
def demo(
    context: click.Context, n_workers: int, steps: int | None, overrides: tuple[str, ...]
) -> None:
    """Meta-train on a small local fleet: a private Redis server and worker processes.

    The run learns to classify characters of unseen scripts from one example of each character. The
    command shows the progress, compares the result with baselines and draws the learning curve. It
    takes about two minutes.

    \b
    metafleet demo
    metafleet demo speech
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    if steps is not None:
        overrides = (*overrides, f"outer.steps={steps}")
    config = ExperimentConfig.load(FOLDER / "demo.toml", overrides)
    _say(f"1. data: {config.data['name']}, drawn once with the installed fonts")
    open_data(config.data, settings.data_dir).prepare(None)
    with open_database(settings) as database:
        _say(f"2. fleet: a private Redis server and {n_workers} worker processes")
        # two demos at a time share this log folder, but never a broker
        order = StackOrder(n_workers, settings.home / "logs" / "demo", is_public=False)
        with EmbeddedStack(settings, order, notify) as stack:
            _await_workers(stack, n_workers)
            _train(database, stack.settings, config)


def _say(text: str) -> None:
    Console(stderr=True).print(text, style="bold", highlight=False)


def _await_workers(stack: EmbeddedStack, n_workers: int) -> None:
    url = stack.settings.broker_url
    assert url is not None
    deadline = time.monotonic() + _WORKERS_WITHIN_S
    with Console(stderr=True).status("workers import torch ..."), connect(url) as client:
        while not stack.wait(0.1):
            with redis_errors(url):
                alive = len(list_workers(client))
            if alive >= n_workers:
                return
            if time.monotonic() > deadline:
                raise FleetError(
                    f"{alive} of {n_workers} workers came up within {_WORKERS_WITHIN_S:.0f} s; "
                    "see their logs in logs/demo under METAFLEET_HOME"
                )
    raise FleetError("the embedded stack ended by itself; see logs/demo under METAFLEET_HOME")


def _train(database: Database, settings: Settings, config: ExperimentConfig) -> None:
    (run,) = create_runs(database, settings, config, seeds=(config.seed,), name="demo")
    _say(f"3. meta-training: {config.outer.steps} outer steps; Ctrl-C stops cleanly")
    # the demo's fleet ends with the demo, so an interrupted run is resumed in one process
    report = execute_watched(
        database,
        settings,
        run,
        options=ExecutionOptions(in_process=False),
        resume_flags=("--in-process",),
    )
    _say("4. test on scripts never seen in training")
    show_report(run, report, as_json=False)
    path = write_curve(database, settings, run.uid)
    command = program()
    _say("5. what next")
    click.echo(f"  learning curve      {path}")
    click.echo(f"  everything recorded {command} runs show {run.id}")
    click.echo(f"  a permanent fleet   {command} up --workers 2 --flower")
    click.echo(f"  another experiment  {command} submit sinusoid-maml     (in a second terminal)")
    click.echo(f"  more files          {FOLDER}")
