"""`metafleet sweep`: try many configurations, and test the best one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories import ServerRepository
from metafleet.experiments import find_experiment
from metafleet.orchestrator.cli.arguments import PathType
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_database
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.given_command import given_command
from metafleet.orchestrator.cli.launching import override_option
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.cli.sweep_begin_warm import begin_warm
from metafleet.orchestrator.cli.sweep_plan import SweepOptions
from metafleet.orchestrator.cli.sweep_report import document, say_ended, show_choice, show_trials
from metafleet.orchestrator.cli.sweeping import execute_here
from metafleet.orchestrator.config.experiment import MAX_SEED, ExperimentConfig
from metafleet.orchestrator.config.sweep import MOST_PARALLEL, MOST_TRIALS
from metafleet.orchestrator.records.run_view import without_nan
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify, program
from metafleet.orchestrator.runs.launch import check_data
from metafleet.orchestrator.sweeps.choice import Choice, judge_best
from metafleet.orchestrator.sweeps.conducting import leave_to_servers
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.proposals import SAMPLERS
from metafleet.orchestrator.sweeps.pruners import PRUNERS
from metafleet.orchestrator.sweeps.sweep import Sweep, ending, open_sweep, queue_sweep


@click.command()
@click.argument("file", type=PathType(path_type=Path))
@click.option(
    "--over",
    multiple=True,
    metavar="KEY=VALUES",
    help="Values of a key: a list (A,B,C), a range (LOW..HIGH) or a log-uniform range "
    "(log:LOW..HIGH). 'KEY=VALUES if OTHER=A' is for configurations with this value of OTHER only. "
    "Repeat the option for more keys.",
)
@override_option
@click.option(
    "--trials",
    type=click.IntRange(min=1, max=MOST_TRIALS),
    help="How many configurations to try; default: all of a grid, else 20.",
)
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    help="How to choose values. Default: grid if every key has a list and --trials is not given, "
    "else random. tpe and gp learn from earlier trials and need the extra `sweep`.",
)
@click.option(
    "--prune",
    type=click.Choice(["none", *PRUNERS]),
    help="End bad trials early at validations: those below the median of the others, by Hyperband, "
    "or those further behind than nearly all good past runs were. Default: none.",
)
@click.option(
    "--warm-start",
    is_flag=True,
    help="Begin with the most promising configurations of past runs on similar data.",
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=MAX_SEED), help="Seed of the sampler. Default: 0."
)
@click.option("--name", help="Name of the sweep and its runs. Default: EXPERIMENT-sweep.")
@click.option(
    "--parallel",
    type=click.IntRange(min=1, max=MOST_PARALLEL),
    help="Trials that `metafleet serve` executes at a time. Default: execute trials here.",
)
@click.option("--detach", is_flag=True, help="Leave the sweep to `metafleet serve` and return.")
@click.option(
    "--in-process", is_flag=True, help="Compute in this process, without Redis and workers."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def sweep(  # noqa: PLR0913 - one for each option
    context: click.Context,
    /,
    file: Path,
    *,
    overrides: Sequence[str],
    name: str | None,
    warm_start: bool,
    detach: bool,
    in_process: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Try several configurations of FILE, and choose the one with the best meta-validation.

    Each trial (one configuration) is an ordinary run without a meta-test. At the end, only the
    chosen trial is tested, once. If a sweep was stopped or killed, the same command continues it.
    Options count more than the same keys in the section [sweep] of FILE.

    \b
    metafleet sweep sinusoid-maml --over outer.lr=log:0.0001..0.1 --trials 30
    metafleet sweep sinusoid-maml --over outer.lr=log:0.0001..0.1 --prune median --detach
    metafleet sweep omniglot-maml --over learner.inner_steps=1,3,5 --over outer.lr=0.001,0.01
    """
    if in_process and (detach or options["parallel"] is not None):
        option = "--detach" if detach else "--parallel"
        raise click.UsageError(f"{option} leaves trials to servers, which use the fleet")
    settings = load_settings()
    config = ExperimentConfig.load(
        find_experiment(file), overrides, allowed_packages=settings.allowed_packages
    )
    plan = SweepOptions(**options).plan(config, name)
    if in_process:
        plan = replace(plan, parallel=None)
    plan.check(settings.allowed_packages)
    with progress_bar() as progress:
        check_data(settings, config, progress)
    if warm_start:
        plan = begin_warm(settings, plan)
    if detach:
        _detach(settings, plan, as_json=as_json)
        return
    if not in_process:
        require_fleet(settings)
    hint = f"the same command continues the sweep: `{given_command(context)}`"
    with open_database(settings) as database:
        found = open_sweep(database, settings, plan)
        _say_begin(found)
        with ending(found):
            choice = _conduct(database, settings, found, in_process=in_process, hint=hint)
        done = found.trials()
    if as_json:
        echo_json(without_nan(document(plan, done, choice)))
    else:
        show_trials(plan, done)
        show_choice(plan, done, choice)


def _conduct(
    database: Database, settings: Settings, found: Sweep, *, in_process: bool, hint: str
) -> Choice:
    """Execute all trials, and test the best one."""
    if found.plan.parallel is None:
        execute_here(database, settings, found, in_process=in_process, hint=hint)
    else:
        _warn_without_servers(database)
        try:
            leave_to_servers(database, found, show=say_ended)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"servers finish the trials in progress; {hint}")
            raise
    with private_files(), watching(has_steps=False) as observer:
        return judge_best(
            database,
            settings,
            found.plan,
            found.trials(),
            in_process=in_process,
            observer=observer,
        )


def _detach(settings: Settings, plan: Plan, *, as_json: bool) -> None:
    """Put the sweep into the queue, and tell how to watch it."""
    with open_database(settings) as database:
        record = queue_sweep(database, settings, replace(plan, parallel=plan.parallel or 1))
        if as_json:
            trials = {"trials": record.n_trials, "parallel": record.parallel}
            echo_json({"sweep": record.name, "status": record.status.value} | trials)
        else:
            click.echo(
                f"sweep {record.name} with {counted(record.n_trials, 'trial')} is queued; watch it "
                f"with `{program()} sweeps show {record.name}`"
            )
        _warn_without_servers(database)


def _warn_without_servers(database: Database) -> None:
    with database.session(read_only=True) as session:
        if not ServerRepository(session).list_alive():
            notify("no server is running; start one with `metafleet serve`")


def _say_begin(found: Sweep) -> None:
    plan = found.plan
    n_done = sum(trial.has_ended for trial in found.trials())
    begun = f", {n_done} of them have ended already" if n_done else ""
    notify(f"sweep {plan.name}: {counted(plan.n_trials, 'trial')} ({plan.search.sampler}){begun}")
