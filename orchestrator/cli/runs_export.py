"""`metafleet runs export`: write the records of runs into files for other programs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from metafleet.errors import ConfigError, RunNotFoundError
from metafleet.orchestrator.cli.arguments import PathType, RunName
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.client.exporting import FILE_FORMATS, export_runs
from metafleet.orchestrator.client.records import Records
from metafleet.orchestrator.client.run import Run

_TENSORBOARD: Final = "tensorboard"
_ROW: Final = "row"


@click.command("export")
@click.argument("runs", type=RunName(), nargs=-1, metavar="[RUN...]")
@click.option(
    "--where",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="Export the runs that match this filter of `runs list`; repeated filters must all hold.",
)
@click.option(
    "--output",
    type=PathType(file_okay=False, path_type=Path),
    required=True,
    help="The folder to write into; files there are replaced.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice([*FILE_FORMATS, _TENSORBOARD, _ROW]),
    default="csv",
    show_default=True,
)
def export(runs: Sequence[str], *, filters: Sequence[str], output: Path, file_format: str) -> None:
    """Write the records of each RUN into four files: `runs`, `steps`, `evaluations` and `episodes`.

    With --format tensorboard, the command writes a folder of event files for each run instead. With
    --format row, it writes one small file for each run instead. `metafleet reproduce` repeats a run
    from this small file.

    \b
    metafleet runs export latest --output results
    metafleet runs export --where 'tags=paper' --output results --format parquet
    """
    if bool(runs) == bool(filters):
        raise click.UsageError("expected runs, or --where FILTER")
    settings = load_settings()
    with open_records(settings, runs[0] if runs else "latest") as database:
        records = Records(database, settings)
        found = records.runs(filters) if filters else [records.run(ref) for ref in runs]
        if not found:
            raise RunNotFoundError("no run matches; see `metafleet runs list`")
        chosen = {run.uid: run for run in found}
        if file_format == _TENSORBOARD:
            for run in chosen.values():
                run.send_to(f"{_TENSORBOARD}:{output}")
            click.echo(str(output))
            return
        if file_format == _ROW:
            _require_own_files(chosen.values())
            for run in chosen.values():
                click.echo(str(run.write_row(output)))
            return
        for path in export_runs(list(chosen.values()), output, file_format):
            click.echo(str(path))


def _require_own_files(runs: Iterable[Run]) -> None:
    """Refuse runs whose rows would replace each other."""
    known: dict[str, Run] = {}
    for run in runs:
        other = known.setdefault(run.row_name, run)
        if other is not run:
            raise ConfigError(
                f"runs {other.id} and {run.id} would both be written to {run.row_name}; expected "
                "runs of different names or seeds: export them into different folders"
            )
