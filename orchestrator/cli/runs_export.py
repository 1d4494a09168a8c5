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
from metafleet.tracking.targets import KINDS, shown_target

_ROW: Final = "row"
_TRACE: Final = "trace"
_TRACKERS: Final = tuple(kind for kind in KINDS if kind not in FILE_FORMATS)


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
    type=PathType(),
    required=True,
    help="The folder to write into; files there are replaced. With --format mlflow, it is the "
    "tracking URI; with wandb or trackio, the project.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice([*FILE_FORMATS, *_TRACKERS, _ROW, _TRACE]),
    default="csv",
    show_default=True,
)
def export(runs: Sequence[str], *, filters: Sequence[str], output: str, file_format: str) -> None:
    """Write the records of each RUN into four files: `runs`, `steps`, `evaluations` and `episodes`.

    RUN is the id or uid of a run, "latest", or a name of runs. As for `metafleet runs compare`, a
    name stands for the newest run with this name and all runs with this name that differ from it
    only in the seed.

    With --format tensorboard, mlflow, wandb or trackio, the command sends what is missing there
    instead of writing these files. With --format row, it writes one small file for each run
    instead. `metafleet reproduce` repeats a run from this small file. With --format trace, it
    writes the timeline of each run's workers, which Perfetto (ui.perfetto.dev) opens.

    \b
    metafleet runs export latest --output results
    metafleet runs export --where 'tags=paper' --output results --format parquet
    metafleet runs export latest --output http://localhost:5000 --format mlflow
    """
    if bool(runs) == bool(filters):
        raise click.UsageError("expected runs, or --where FILTER")
    settings = load_settings()
    with open_records(settings, runs[0] if runs else "latest") as database:
        records = Records(database, settings)
        found = (
            records.runs(filters)
            if filters
            else [run for name in runs for run in records.named(name)]
        )
        if not found:
            raise RunNotFoundError("no run matches; see `metafleet runs list`")
        chosen = {run.uid: run for run in found}
        if file_format in _TRACKERS:
            for run in chosen.values():
                run.send_to(f"{file_format}:{output}")
            noun = "run" if len(chosen) == 1 else "runs"
            click.echo(f"{shown_target(output)}: {len(chosen)} {noun}")
            return
        _require_folder(output)
        if file_format == _ROW:
            _require_own_files(chosen.values())
            for run in chosen.values():
                click.echo(str(run.write_row(output)))
            return
        if file_format == _TRACE:
            for run in chosen.values():
                click.echo(str(run.write_trace(output)))
            return
        for path in export_runs(list(chosen.values()), Path(output), file_format):
            click.echo(str(path))


def _require_folder(output: str) -> None:
    if Path(output).exists() and not Path(output).is_dir():
        raise click.BadParameter(
            f"{output!r:.80} is a file; expected a folder", param_hint="--output"
        )


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
