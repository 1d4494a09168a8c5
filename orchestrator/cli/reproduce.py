"""`metafleet reproduce`: run a result of the ledger again, and compare."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from metafleet.contracts.settings import Settings
from metafleet.data.registry import open_data
from metafleet.db.engine import Database
from metafleet.db.repositories import EvaluationRepository, RunRepository
from metafleet.errors import ConfigError, DataMissingError, NumericsError
from metafleet.orchestrator.cli.arguments import PathType
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_database
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.execution import execute_watched
from metafleet.orchestrator.cli.tables import make_table, show_rows
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.ledger.preparing import prepare_command
from metafleet.orchestrator.ledger.row import LedgerRow, Metric
from metafleet.orchestrator.ledger.verdict import Verdict, judge
from metafleet.orchestrator.ledger.words import name_of
from metafleet.orchestrator.reporting.figures import figure
from metafleet.orchestrator.runs.launch import check_data, create_runs
from metafleet.orchestrator.runs.run_session import ExecutionOptions

_TAG: Final = "reproduction"
_CHECKS: Final = ("auto", "bits", "interval")


@click.command()
@click.argument("row", type=PathType(path_type=Path))
@click.option(
    "--check",
    type=click.Choice(_CHECKS),
    default="auto",
    show_default=True,
    help="What must come out: the same bits, or results inside their intervals; auto: bits if the "
    "arithmetic is the same.",
)
@click.option(
    "--in-process", is_flag=True, help="Compute in this process, without Redis and workers."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reproduce(row: Path, *, check: str, in_process: bool, as_json: bool) -> None:
    """Repeat the run that the file ROW describes, and say whether the result is the same.

    `metafleet runs export RUN --format row` writes such files. If the result differs, the exit
    status is 1.

    \b
    metafleet reproduce results/sinusoid-maml-1.json --in-process
    """
    settings = load_settings()
    recorded = LedgerRow.read(row)
    config = ExperimentConfig.changed(
        recorded.config, [], origin=str(row), allowed_packages=settings.allowed_packages
    )
    _require_data(settings, config)
    _require_same_data(settings, config, recorded)
    if not in_process:
        require_fleet(settings)
    with open_database(settings) as database:
        run_id, found = _run_again(database, settings, config, in_process=in_process)
    verdict = judge(recorded, found)
    if as_json:
        echo_json(_document(run_id, recorded, found, verdict))
    else:
        _show(run_id, recorded, found, verdict)
    _require(verdict, check)


def _require_data(settings: Settings, config: ExperimentConfig) -> None:
    try:
        with progress_bar() as progress:
            check_data(settings, config, progress)
    except DataMissingError as error:
        command = prepare_command(config.data)
        if not command:
            raise
        raise DataMissingError(
            f"the data of the row are not on this machine; prepare them with `{command}`"
        ) from error


def _require_same_data(settings: Settings, config: ExperimentConfig, recorded: LedgerRow) -> None:
    data = open_data(config.data, settings.data_dir, allowed_packages=settings.allowed_packages)
    digest = data.digest()
    if digest != recorded.data_digest:
        raise ConfigError(
            f"the data here have digest {digest[:16]}..., and the row was made with "
            f"{recorded.data_digest:.16}...; prepare the same data"
            + (f" with `{command}`" if (command := prepare_command(config.data)) else "")
        )


def _run_again(
    database: Database, settings: Settings, config: ExperimentConfig, *, in_process: bool
) -> tuple[int, LedgerRow]:
    (run,) = create_runs(database, settings, config, seeds=[config.seed], tags=[_TAG])
    execute_watched(database, settings, run, options=ExecutionOptions(in_process))
    with database.session(read_only=True) as session:
        finished = RunRepository(session).get(run.id)
        evaluations = EvaluationRepository(session).list(run.id)
    return run.id, LedgerRow.of(finished, evaluations)


def _show(run_id: int, recorded: LedgerRow, found: LedgerRow, verdict: Verdict) -> None:
    figures = ("recorded", "now")
    table = make_table("result", *figures, "", right=figures)
    for result in verdict.results:
        is_equal = result.found is not None and result.found.value == result.recorded.value
        said = "equal" if is_equal else "inside" if result.is_inside else "[red]outside[/]"
        now = _figure(result.found) if result.found else "-"
        table.add_row(escape(result.recorded.name), _figure(result.recorded), now, said)
    show_rows(table)
    click.echo(f"run {run_id} repeats {recorded.experiment}, seed {recorded.seed}, from")
    click.echo(f"  metafleet {recorded.code_version}; here: {found.code_version}")
    if verdict.has_same_bits:
        click.echo(f"same bits: checkpoint sha256 {found.checkpoint_sha256}")
        return
    click.echo("other bits: the final state differs from the row's. The sha256 values are")
    click.echo(f"  {recorded.checkpoint_sha256[:16]}... in the row")
    click.echo(f"  {found.checkpoint_sha256[:16]}... now")
    if not verdict.differences:
        return
    click.echo("These differences can change bits (row -> now):")
    for key, (before, now) in verdict.differences.items():
        click.echo(f"  {name_of(key)}: {before} -> {now}")
    click.echo("The same bits are expected only if all of these are equal.")
    click.echo("Otherwise, compare the results within their intervals: --check interval")


def _figure(metric: Metric) -> str:
    return figure(metric.value, metric.ci95, is_share=metric.accuracy is not None)


def _require(verdict: Verdict, check: str) -> None:
    """Raise NumericsError if the wanted result did not come out."""
    wants_bits = check == "bits" or (check == "auto" and not verdict.differences)
    if wants_bits and not verdict.has_same_bits:
        raise NumericsError(
            "the bits differ from the row's, "
            + (
                "because the processor, the libraries or the code differ; use --check interval"
                if verdict.differences
                else "although the arithmetic is the same; expected the same bits"
            )
        )
    if not wants_bits and not verdict.is_inside:
        raise NumericsError("a result is outside of its interval; expected all inside")


def _document(
    run_id: int, recorded: LedgerRow, found: LedgerRow, verdict: Verdict
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "same_bits": verdict.has_same_bits,
        "inside": verdict.is_inside,
        "checkpoint_sha256": {
            "recorded": recorded.checkpoint_sha256,
            "found": found.checkpoint_sha256,
        },
        "differences": verdict.differences,
        "results": [
            {"name": one.recorded.name, "inside": one.is_inside}
            | {"recorded": asdict(one.recorded), "found": asdict(one.found) if one.found else None}
            for one in verdict.results
        ],
    }
