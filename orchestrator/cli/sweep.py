"""`metafleet sweep`: try many configurations, and test the best one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord
from metafleet.db.repositories import EvaluationRepository
from metafleet.db.repositories.evaluations import TRAINED
from metafleet.errors import ConfigError, FleetError
from metafleet.experiments import find_experiment
from metafleet.orchestrator.cli.arguments import PathType
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_database
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.launching import override_option
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.cli.run_words import STATUS_STYLES
from metafleet.orchestrator.cli.sweeping import execute_here, leave_to_servers, only_process
from metafleet.orchestrator.cli.tables import make_table, show_rows
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.naming import check_name
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.run_view import without_nan
from metafleet.orchestrator.reporting.figures import counted, figure
from metafleet.orchestrator.reporting.output import notify, program
from metafleet.orchestrator.runs.evaluate_run import evaluate_run
from metafleet.orchestrator.runs.launch import check_data
from metafleet.orchestrator.sweeps.proposals import SAMPLERS, require_sampler
from metafleet.orchestrator.sweeps.space import Choices, Parameter, grid_size, parse_space
from metafleet.orchestrator.sweeps.sweep import Plan, Sweep, Trial, best_of
from metafleet.splits import META_TEST

_TRIALS: Final = 20
_MOST_TRIALS: Final = 10_000
_MOST_SHOWN: Final = 20
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
    type=click.IntRange(min=1, max=_MOST_TRIALS),
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
def sweep(  # noqa: PLR0913 - one for each option
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
    space = parse_space(texts)
    config = ExperimentConfig.load(
        find_experiment(file), overrides, allowed_packages=settings.allowed_packages
    )
    plan = _plan(config, space, name, sampler=sampler, seed=seed, trials=trials)
    with progress_bar() as progress:
        check_data(settings, config, progress)
    if not in_process:
        require_fleet(settings)
    with open_database(settings) as database, only_process(settings, plan.name):
        found = Sweep(database, settings, plan)
        _say_begin(found, plan)
        if parallel is None:
            execute_here(database, settings, found, n_trials=plan.n_trials, in_process=in_process)
        else:
            leave_to_servers(
                database, found, n_trials=plan.n_trials, parallel=parallel, show=_say_ended
            )
        done = found.trials()
        best = best_of(done)
        if best is None:
            raise FleetError(
                f"none of {counted(len(done), 'trial')} of sweep {plan.name!r} has finished; see "
                f"`metafleet runs list --where tags={plan.tag}`"
            )
        test = _test(database, settings, plan, best, in_process=in_process)
    if as_json:
        echo_json(without_nan(_document(plan, done, best, test)))
    else:
        _show(plan, done, best, test)


def _plan(
    config: ExperimentConfig,
    space: tuple[Parameter, ...],
    name: str | None,
    *,
    sampler: str | None,
    seed: int,
    trials: int | None,
) -> Plan:
    chosen = name or f"{config.name}-sweep"
    check_name(chosen, "--name")
    if len(chosen) > _LONGEST_NAME:
        raise ConfigError(
            f"--name has {len(chosen)} characters; expected at most {_LONGEST_NAME} for a sweep"
        )
    if sampler is None:
        is_grid = trials is None and all(isinstance(one, Choices) for one in space)
        sampler = "grid" if is_grid else "random"
    require_sampler(sampler)
    size = grid_size(space) if sampler == "grid" else _MOST_TRIALS
    n_trials = min(size, trials or (size if sampler == "grid" else _TRIALS), _MOST_TRIALS)
    return Plan(
        name=chosen, config=config, space=space, sampler=sampler, seed=seed, n_trials=n_trials
    )


def _say_begin(found: Sweep, plan: Plan) -> None:
    n_done = sum(trial.has_ended for trial in found.trials())
    begun = f", {n_done} of them have ended already" if n_done else ""
    notify(f"sweep {plan.name}: {counted(plan.n_trials, 'trial')} ({plan.sampler}){begun}")


def _say_ended(trial: Trial) -> None:
    result = _result(trial) if trial.score is not None else trial.run.status.value
    values = ", ".join(f"{key}={shown(value)}" for key, value in trial.values.items())
    notify(f"trial {trial.number} (run {trial.run.id}): {values}: {result}")


def _test(
    database: Database, settings: Settings, plan: Plan, best: Trial, *, in_process: bool
) -> EvaluationRecord | None:
    """Test the chosen run unless that was done; None if the configuration has no test."""
    episodes = plan.config.test.episodes
    if not episodes:
        return None
    found = _find_test(database, best)
    if found is None:
        with private_files(), watching(has_steps=False) as observer:
            evaluate_run(
                database,
                settings,
                best.run.id,
                split=META_TEST,
                episodes=episodes,
                in_process=in_process,
                observer=observer,
            )
        found = _find_test(database, best)
    return found


def _find_test(database: Database, best: Trial) -> EvaluationRecord | None:
    with database.session(read_only=True) as session:
        found = EvaluationRepository(session).list(best.run.id, split=META_TEST, label=TRAINED)
    return found[-1] if found else None


def _show(plan: Plan, trials: Sequence[Trial], best: Trial, test: EvaluationRecord | None) -> None:
    keys = [parameter.key for parameter in plan.space]
    figures = ("trial", "run", *keys, "best (meta_val)")
    table = make_table(*figures, "status", right=figures)
    for trial in sorted(trials, key=_rank)[:_MOST_SHOWN]:
        style = STATUS_STYLES.get(trial.run.status, "default")
        cells = (f"{trial.number}", f"{trial.run.id}", *(_cell(trial.values[key]) for key in keys))
        table.add_row(*cells, _result(trial), f"[{style}]{trial.run.status}[/]")
    show_rows(table)
    click.echo(f"best of {counted(len(trials), 'configuration')}: trial {best.number}")
    if test is not None:
        is_share = test.accuracy is not None
        value = test.loss if test.accuracy is None else test.accuracy
        interval = test.loss_ci95 if test.accuracy is None else test.accuracy_ci95
        text = figure(value, interval, is_share=is_share)
        click.echo(f"meta_test of this trial alone: {text} ({test.episodes} episodes)")
    episodes = plan.config.test.episodes
    click.echo(
        f"train it with other seeds: {program()} runs clone {best.run.id} "
        f"--set test.episodes={episodes or 600} --seeds 1,2,3"
    )


def _rank(trial: Trial) -> tuple[bool, float, int]:
    return trial.score is None, -(trial.score or 0.0), trial.number


def _cell(value: Any) -> str:
    return escape(f"{value:.6g}" if isinstance(value, float) else shown(value))


def _result(trial: Trial) -> str:
    value = trial.entry.value("best")
    if value is None:
        return "-"
    is_share = trial.entry.is_share("best")
    return figure(value, trial.entry.value("best.ci95"), is_share=is_share)


def _document(
    plan: Plan, trials: Sequence[Trial], best: Trial, test: EvaluationRecord | None
) -> dict[str, Any]:
    return {
        "sweep": plan.name,
        "sampler": plan.sampler,
        "seed": plan.seed,
        "trials": [
            {"trial": trial.number, "run": trial.run.id, "status": trial.run.status.value}
            | {"values": trial.values, "best": trial.entry.value("best")}
            for trial in trials
        ],
        "best": {"trial": best.number, "run": best.run.id, "values": best.values},
        "meta_test": asdict(test) if test else None,
    }
