"""Executing one run while somebody watches, and reporting what came of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord, RunStatus
from metafleet.data.registry import least_mse
from orchestrator.cli.context import echo_json
from orchestrator.cli.figures import contender, counted, duration, percent, plus_minus
from orchestrator.cli.logs import log_to
from orchestrator.cli.output import program
from orchestrator.cli.progress import watching
from orchestrator.cli.tables import make_table, show_table
from orchestrator.config.experiment import ExperimentConfig
from orchestrator.events import EvaluationDone
from orchestrator.launch import RunReport, execute_run
from orchestrator.tenure import Tenure


def execute_watched(  # noqa: PLR0913 - options of several commands
    database: Database,
    settings: Settings,
    run: RunRecord,
    *,
    in_process: bool,
    relaxed: bool = False,
    resume_flags: Sequence[str] = (),
    tenure: Tenure | None = None,
) -> RunReport:
    """Run, or go on with, one run; Ctrl-C leaves it as ``tenure`` says, and says how to go on."""
    log_to(settings.home / "logs")
    try:
        with watching() as observer:
            return execute_run(
                *(database, settings, run.id),
                in_process=in_process,
                observer=observer,
                relaxed=relaxed,
                tenure=tenure,
            )
    except KeyboardInterrupt as interrupt:
        if tenure is not None and tenure.after_interrupt is RunStatus.QUEUED:
            interrupt.add_note(
                f"run {run.id} is left to servers (`metafleet serve`); watch it with "
                f"`metafleet runs attach {run.id}`"
            )
            raise
        flags = resume_flags or (("--in-process",) if in_process else ())
        command = " ".join(("metafleet runs resume", str(run.id), *flags))
        is_cancelled = tenure is not None and tenure.after_interrupt is RunStatus.CANCELLED
        subject = f"run {run.id} is cancelled; it" if is_cancelled else f"run {run.id}"
        interrupt.add_note(f"{subject} can go on from its last checkpoint: `{command}`")
        raise


def report_json(run: RunRecord, report: RunReport) -> dict[str, Any]:
    """Give a report as JSON values."""
    return {"run_id": run.id, "uid": run.uid, "name": run.name, "seed": run.seed} | asdict(report)


def show_report(run: RunRecord, report: RunReport, *, as_json: bool) -> None:
    """Print what came of a run."""
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
    click.echo(f"final state sha256 {report.checkpoint_sha256}")
    click.echo(f"more: {program()} runs show {run.id}")


def _describe_workers(workers: tuple[str, ...]) -> str:
    return f"by {len(workers)} worker processes" if len(workers) != 1 else f"by {workers[0]}"


def show_evaluations(evaluations: Sequence[EvaluationDone], config: ExperimentConfig) -> None:
    """Print the evaluations of one split: chance or the noise first, what was trained last."""
    split = evaluations[0].split
    is_classification = evaluations[0].accuracy is not None
    figures = ("accuracy (95 %)", "loss (95 %)")[0 if is_classification else 1 :]
    table = make_table("judged", *figures, right=figures)
    if is_classification:
        chance = percent(1 / config.episodes.shape(split).n_way)
        table.add_row("chance", chance, "", style="dim")
    elif floor := least_mse(config.data):
        table.add_row("noise of the targets, squared", f"{floor:.4f}", style="dim")
    for e in sorted(evaluations, key=_is_trained):
        accuracy = (percent(e.accuracy, e.accuracy_ci95),) if is_classification else ()
        table.add_row(
            *(contender(e.label), *accuracy, plus_minus(e.loss, e.loss_ci95)),
            style="bold" if _is_trained(e) else None,
        )
    click.secho(_describe(evaluations, config), bold=True)
    show_table(table)


def _describe(evaluations: Sequence[EvaluationDone], config: ExperimentConfig) -> str:
    last = max(evaluations, key=_is_trained)
    shape = config.episodes.shape(last.split)
    ways = f"{shape.n_way}-way " if shape.n_way else ""
    return (
        f"{last.split}: {last.episodes} episodes, {ways}{shape.k_shot}-shot, "
        f"{shape.n_query} query; batch norm {last.batch_norm}"
    )


def _is_trained(evaluation: EvaluationDone) -> bool:
    return evaluation.label.partition(", ")[0] == "trained"
