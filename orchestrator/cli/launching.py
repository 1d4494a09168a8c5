"""Creates runs from a configuration and executes or queues them: `submit` and `runs clone`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories import RunRepository, ServerRepository
from metafleet.db.repositories.runs import refuse_reserved
from metafleet.errors import ConfigError, MetafleetError
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.context import echo_json, open_database
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.evaluations import show_seeds
from metafleet.orchestrator.cli.execution import execute_watched, show_report
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.naming import check_name
from metafleet.orchestrator.reporting.output import notify, program, unread_is_fine
from metafleet.orchestrator.runs.launch import MOST_PRIORITY, Queueing, check_data, create_runs
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.runs.tenure import Tenure

_AFTER_INTERRUPT = {
    "keep": RunStatus.INTERRUPTED,
    "detach": RunStatus.QUEUED,
    "cancel": RunStatus.CANCELLED,
}
override_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key, e.g. outer.lr=0.01; may be repeated.",
)
_OPTIONS = (
    click.option(
        "--seeds",
        metavar="1,2,3",
        help="Start one run per seed; default: one run, with the seed of the configuration.",
    ),
    click.option(
        "--name", help="Name of the runs; default: the name of the experiment or of the cloned run."
    ),
    click.option(
        "--in-process",
        is_flag=True,
        help="Compute in this process, without Redis and workers; same bits.",
    ),
    click.option("--detach", is_flag=True, help="Queue the runs for `metafleet serve` and return."),
    click.option(
        "--priority",
        type=click.IntRange(min=-MOST_PRIORITY, max=MOST_PRIORITY),
        default=0,
        show_default=True,
        help="Priority in the queue; higher runs first.",
    ),
    click.option(
        "--on-interrupt",
        type=click.Choice([*_AFTER_INTERRUPT]),
        default="keep",
        show_default=True,
        help="On Ctrl-C, keep the run for `runs resume`, put it in the queue, or cancel it.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object per run when it ends."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """The values of ``launch_options``."""

    seeds: str | None
    name: str | None
    in_process: bool
    detach: bool
    priority: int
    on_interrupt: str
    as_json: bool

    def __post_init__(self) -> None:
        if self.detach and self.in_process:
            raise click.UsageError("--detach leaves the run to servers, which use the fleet")
        if self.name is not None:
            check_name(self.name, "--name")


def launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``LaunchOptions`` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def launch(
    settings: Settings,
    config: ExperimentConfig,
    options: LaunchOptions,
    *,
    parent: RunRecord | None = None,
) -> None:
    """Create one run for each seed, then execute the runs or leave them in the queue.

    Args:
        settings: locations of the broker, the database and the data.
        config: the configuration.
        options: the seeds, the runs' name, and options of the execution.
        parent: the run whose configuration was changed; None if ``config`` comes from a file.
    """
    name = options.name or (parent.name if parent else None)
    refuse_reserved(name or config.name)
    seeds = _parse_seeds(options.seeds) if options.seeds is not None else (config.seed,)
    for seed in seeds:
        config.with_seed(seed)
    with progress_bar() as progress:
        check_data(settings, config, progress)
    if not options.in_process and not options.detach:  # the queue needs only the database
        require_fleet(settings)
    queue = Queueing(detached=options.detach, priority=options.priority)
    with open_database(settings) as database:
        runs = create_runs(
            database,
            settings,
            config,
            seeds=seeds,
            name=name,
            queue=queue,
            parent_uid=parent.uid if parent else None,
        )
        if options.detach:
            _show_queued(database, runs, as_json=options.as_json)
        else:
            _execute(database, settings, runs, options)


def _execute(
    database: Database, settings: Settings, runs: Sequence[RunRecord], options: LaunchOptions
) -> None:
    tenure = Tenure(after_interrupt=_AFTER_INTERRUPT[options.on_interrupt])
    execution = ExecutionOptions(options.in_process, tenure=tenure)
    judged = []
    for index, run in enumerate(runs):
        try:
            report = execute_watched(database, settings, run, options=execution)
        except (MetafleetError, KeyboardInterrupt) as error:
            _settle_the_rest(database, runs[index + 1 :], error, tenure.after_interrupt)
            raise
        judged.append(report.evaluations)
        with unread_is_fine(sys.stdout):  # there may be more seeds
            show_report(run, report, as_json=options.as_json)
    if len(judged) > 1 and not options.as_json:
        show_seeds(judged)


def _show_queued(database: Database, runs: Sequence[RunRecord], *, as_json: bool) -> None:
    with database.session(read_only=True) as session:
        servers = ServerRepository(session).list_alive()
    for run in runs:
        if as_json:
            echo_json(
                {"run_id": run.id, "uid": run.uid, "name": run.name, "seed": run.seed}
                | {"status": run.status, "priority": run.priority, "servers": len(servers)}
            )
        else:
            click.echo(
                f"run {run.id} ({run.name}, seed {run.seed}) is queued; watch it with "
                f"`{program()} runs attach {run.id}`"
            )
    if not servers:
        notify("no server is running; start one with `metafleet serve`")


def _settle_the_rest(
    database: Database, runs: Sequence[RunRecord], error: BaseException, after: RunStatus
) -> None:
    """Give the runs that were not begun the status that the interrupted one got."""
    if not runs:
        return
    left = ", ".join(str(run.id) for run in runs)
    is_asked = isinstance(error, KeyboardInterrupt)
    status = after if is_asked else RunStatus.INTERRUPTED
    reason = "not begun" if status is RunStatus.INTERRUPTED else None
    try:
        with database.session() as session:
            repository = RunRepository(session)
            for run in runs:
                repository.hold(run.id, epoch=run.epoch)
                repository.mark_status(run.id, status, error=reason)
    except MetafleetError as failure:  # the first error matters more
        notify(f"runs {left} are not begun, but this could not be recorded: {failure}")
        return
    if status is RunStatus.INTERRUPTED:
        notify(f"not begun: runs {left}; begin them with `metafleet runs resume ID`")
    else:
        notify(f"{status}: runs {left}")


def _parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds, e.g. "1,2,3".

    Raises:
        ConfigError: a seed is not a whole number, or two seeds are equal.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--seeds {text!r} holds something else than whole numbers; expected 1,2,3"
        ) from error
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"--seeds {text!r} names a seed twice; expected different seeds")
    return seeds
