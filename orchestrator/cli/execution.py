"""Executes one run with its progress shown, and reports the result."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import click

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.orchestrator.cli.context import echo_json
from metafleet.orchestrator.cli.evaluations import show_evaluations
from metafleet.orchestrator.cli.logs import log_to
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.reporting.figures import counted, duration
from metafleet.orchestrator.reporting.output import program
from metafleet.orchestrator.runs.launch import RunReport, execute_run
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.orchestrator.runs.tenure import CancelRequest
from metafleet.orchestrator.training.events import Observer


def execute_watched(  # noqa: PLR0913 - options of several commands
    database: Database,
    settings: Settings,
    run: RunRecord,
    *,
    options: ExecutionOptions,
    resume_flags: Sequence[str] = (),
    hint: str | None = None,
    wrap: Callable[[Observer], Observer] = lambda observer: observer,
) -> RunReport:
    """Start or resume a run; after Ctrl-C, leave it as its tenure says and tell how to continue.

    If ``hint`` is given, it is told instead. ``wrap`` may put another observer around the one that
    shows the progress.
    """
    log_to(settings.home / "logs", settings)
    try:
        with private_files(), watching() as observer:
            return execute_run(database, settings, run.id, options=options, observer=wrap(observer))
    except CancelRequest:
        raise
    except KeyboardInterrupt as interrupt:
        if hint is not None:
            interrupt.add_note(hint)
            raise
        tenure = options.tenure
        if tenure is not None and tenure.after_interrupt is RunStatus.QUEUED:
            interrupt.add_note(
                f"run {run.id} is left to servers (`metafleet serve`); watch it with "
                f"`metafleet runs attach {run.id}`"
            )
            raise
        flags = resume_flags or (("--in-process",) if options.in_process else ())
        command = " ".join(("metafleet runs resume", str(run.id), *flags))
        is_cancelled = tenure is not None and tenure.after_interrupt is RunStatus.CANCELLED
        subject = f"run {run.id} is cancelled; it" if is_cancelled else f"run {run.id}"
        interrupt.add_note(f"{subject} can go on from its last checkpoint: `{command}`")
        raise


def report_json(run: RunRecord, report: RunReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {"run_id": run.id, "uid": run.uid, "name": run.name, "seed": run.seed} | asdict(report)


def show_report(run: RunRecord, report: RunReport, *, as_json: bool) -> None:
    """Print the result of a run."""
    if as_json:
        echo_json(report_json(run, report))
        return
    steps = counted(report.steps, "outer step")
    click.echo(
        f"run {run.id} ({run.name}, seed {run.seed}) {report.status}: {steps} "
        f"in {duration(report.wall_s)}, {_describe_workers(report.workers)}"
    )
    if report.degraded_steps:
        click.secho(
            f"{counted(report.degraded_steps, 'outer step')} degraded: went on without "
            f"{counted(report.missing_episodes, 'episode')} in all; `{program()} runs show "
            f"{run.id}` says which",
            fg="yellow",
        )
    if report.evaluations:
        config = ExperimentConfig.from_json(run.config)
        show_evaluations(report.evaluations, config)
    click.echo(f"checkpoint sha256 {report.checkpoint_sha256} (state and optimiser)")
    click.echo(f"more: {program()} runs show {run.id}")


def _describe_workers(workers: tuple[str, ...]) -> str:
    return f"by {len(workers)} worker processes" if len(workers) != 1 else f"by {workers[0]}"
