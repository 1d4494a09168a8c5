"""`metafleet sweep`: try many configurations, and test the best one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories import ServerRepository
from metafleet.db.repositories.runs import refuse_reserved
from metafleet.errors import ConfigError
from metafleet.experiments import find_experiment
from metafleet.orchestrator.cli.arguments import PathType
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_database
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.given_command import given_command
from metafleet.orchestrator.cli.launching import override_option
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.cli.sweep_report import document, say_ended, show_choice, show_trials
from metafleet.orchestrator.cli.sweeping import execute_here
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.naming import check_name
from metafleet.orchestrator.records.run_view import without_nan
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.launch import check_data
from metafleet.orchestrator.sweeps.by_optuna import require_sampler
from metafleet.orchestrator.sweeps.choice import Choice, judge_best
from metafleet.orchestrator.sweeps.conducting import leave_to_servers
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.proposals import MOST_TRIALS, SAMPLERS, Search
from metafleet.orchestrator.sweeps.space import (
    Choices,
    Parameter,
    count_configurations,
    grid_size,
)
from metafleet.orchestrator.sweeps.sweep import Sweep, ending, open_sweep

_TRIALS: Final = 20
_LONGEST_NAME: Final = 58
"""A tag has 64 characters and begins with "sweep:"."""


@click.command()
@click.argument("file", type=PathType(path_type=Path))
@click.option(
    "--over",
    "texts",
    multiple=True,
    required=True,
    metavar="KEY=VALUES",
    help="Values of a key: a list (A,B,C), a range (LOW..HIGH) or a log-uniform range "
    "(log:LOW..HIGH). Repeat the option for more keys.",
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
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the sampler."
)
@click.option("--name", help="Name of the sweep and its runs. Default: EXPERIMENT-sweep.")
@click.option(
    "--parallel",
    type=click.IntRange(min=1, max=1000),
    help="Trials that `metafleet serve` executes at a time. Default: execute trials here.",
)
@click.option(
    "--in-process", is_flag=True, help="Compute in this process, without Redis and workers."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def sweep(  # noqa: PLR0913 - one for each option
    context: click.Context,
    file: Path,
    *,
    texts: Sequence[str],
    overrides: Sequence[str],
    trials: int | None,
    sampler: str | None,
    seed: int,
    name: str | None,
    parallel: int | None,
    in_process: bool,
    as_json: bool,
) -> None:
    """Try several configurations of FILE, and choose the one with the best meta-validation.

    Each trial (one configuration) is an ordinary run without a meta-test. At the end, only the
    chosen trial is tested, once. If a sweep was stopped or killed, the same command continues it.

    \b
    metafleet sweep sinusoid-maml --over outer.lr=log:0.0001..0.1 --trials 30
    metafleet sweep omniglot-maml --over learner.inner_steps=1,3,5 --over outer.lr=0.001,0.01
    """
    if parallel is not None and in_process:
        raise click.UsageError("--parallel leaves trials to servers, which use the fleet")
    settings = load_settings()
    config = ExperimentConfig.load(
        find_experiment(file), overrides, allowed_packages=settings.allowed_packages
    )
    search, size = _search(parse_space(texts), sampler, seed=seed, trials=trials)
    plan = Plan(
        name=_name(name or f"{config.name}-sweep"),
        config=config,
        search=search,
        n_trials=_n_trials(search, size, trials),
        parallel=parallel,
    )
    plan.check(settings.allowed_packages)
    with progress_bar() as progress:
        check_data(settings, config, progress)
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
        with database.session(read_only=True) as session:
            if not ServerRepository(session).list_alive():
                notify("no server is running; start one with `metafleet serve`")
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


def _name(name: str) -> str:
    check_name(name, "--name")
    refuse_reserved(name)
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"--name has {len(name)} characters; expected at most {_LONGEST_NAME} for a sweep"
        )
    return name


def _search(
    space: tuple[Parameter, ...], sampler: str | None, *, seed: int, trials: int | None
) -> tuple[Search, int | None]:
    """Return how configurations are chosen, and how many there are; None if there is no limit."""
    if sampler is None:
        is_grid = trials is None and all(isinstance(one, Choices) for one in space)
        sampler = "grid" if is_grid else "random"
    require_sampler(sampler)
    if sampler == "grid":
        return Search(space, sampler, seed), grid_size(space, limit=MOST_TRIALS)
    return Search(space, sampler, seed), count_configurations(space, limit=MOST_TRIALS)


def _n_trials(search: Search, size: int | None, wanted: int | None) -> int:
    """Return the number of trials; say it if the space has fewer configurations than wanted."""
    most = MOST_TRIALS if size is None else size
    n_trials = wanted or (most if search.sampler == "grid" else min(_TRIALS, most))
    if n_trials > most:
        notify(f"the space has {counted(most, 'configuration')}; each is tried once")
    return min(n_trials, most)


def _say_begin(found: Sweep) -> None:
    plan = found.plan
    n_done = sum(trial.has_ended for trial in found.trials())
    begun = f", {n_done} of them have ended already" if n_done else ""
    notify(f"sweep {plan.name}: {counted(plan.n_trials, 'trial')} ({plan.search.sampler}){begun}")
