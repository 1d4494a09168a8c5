"""Executing one run while somebody watches, and reporting what came of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord
from orchestrator.cli.context import echo_json
from orchestrator.cli.figures import duration, percent, plus_minus
from orchestrator.cli.logs import log_to
from orchestrator.cli.progress import watching
from orchestrator.config import ExperimentConfig
from orchestrator.events import EvaluationDone
from orchestrator.launch import RunReport, execute_run


def execute_watched(
    database: Database,
    settings: Settings,
    run: RunRecord,
    *,
    in_process: bool,
    relaxed: bool = False,
    resume_flags: Sequence[str] = (),
) -> RunReport:
    """Run, or go on with, one run; Ctrl-C leaves it interrupted and says how to go on."""
    log_to(settings.home / "logs")
    try:
        with watching() as observer:
            return execute_run(
                *(database, settings, run.id),
                in_process=in_process,
                observer=observer,
                relaxed=relaxed,
            )
    except KeyboardInterrupt as interrupt:
        flags = resume_flags or (("--in-process",) if in_process else ())
        command = " ".join(("metafleet runs resume", str(run.id), *flags))
        interrupt.add_note(f"run {run.id} can go on from its last checkpoint: `{command}`")
        raise


def report_json(run: RunRecord, report: RunReport) -> dict[str, Any]:
    """Give a report as JSON values."""
    return {"run_id": run.id, "uid": run.uid, "name": run.name, "seed": run.seed} | asdict(report)


def show_report(run: RunRecord, report: RunReport, *, as_json: bool) -> None:
    """Print what came of a run."""
    if as_json:
        echo_json(report_json(run, report))
        return
    click.echo(
        f"run {run.id} ({run.name}, seed {run.seed}) {report.status}: {report.steps} outer steps "
        f"in {duration(report.wall_s)}, {_describe_workers(report.workers)}"
    )
    if report.evaluations:
        config = ExperimentConfig.from_json(run.config)
        Console().print(evaluation_table(report.evaluations, config))
    click.echo(f"final state sha256 {report.checkpoint_sha256}")
    click.echo(f"more: metafleet runs show {run.id}")


def _describe_workers(workers: tuple[str, ...]) -> str:
    return f"by {len(workers)} worker processes" if len(workers) != 1 else f"by {workers[0]}"


def evaluation_table(evaluations: tuple[EvaluationDone, ...], config: ExperimentConfig) -> Table:
    """Lay evaluations out, with chance beside them for classification."""
    splits = list(dict.fromkeys(e.split for e in evaluations))
    table = Table(title=", ".join(_describe_split(split, config) for split in splits))
    for heading in ("judged", "split", "step", "episodes"):
        table.add_column(heading, justify="left" if heading in ("judged", "split") else "right")
    is_classification = any(e.accuracy is not None for e in evaluations)
    if is_classification:
        table.add_column("accuracy (95 %)", justify="right")
    table.add_column("loss (95 %)", justify="right")
    table.add_column("batch norm")
    for e in evaluations:
        accuracy = (percent(e.accuracy, e.accuracy_ci95),) if is_classification else ()
        table.add_row(
            *(e.label, e.split, str(e.step), str(e.episodes), *accuracy),
            *(plus_minus(e.loss, e.loss_ci95), e.batch_norm),
            style="bold" if e.label == "trained" else None,
        )
    if is_classification:
        for split in splits:
            chance = percent(1 / config.episodes.shape(split).n_way)
            table.add_row("chance", split, "", "", chance, "", "", style="dim")
    return table


def _describe_split(split: str, config: ExperimentConfig) -> str:
    shape = config.episodes.shape(split)
    ways = f"{shape.n_way}-way " if shape.n_way else ""
    return f"{split}: {ways}{shape.k_shot}-shot, {shape.n_query} query"
