"""`metafleet report`: write a report of runs as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

import click

from metafleet.orchestrator.cli.arguments import OutputFile, PathType, RunName
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.report.writing import (
    ReportOptions,
    make_report,
    require_folder,
    write_figures,
    write_report,
)
from metafleet.orchestrator.reporting.output import notify


@click.command()
@click.argument("runs", type=RunName(), nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=OutputFile(),
    default=Path("report.html"),
    show_default=True,
    help="The HTML file to write; an existing one is replaced.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Compare each further run or group with the first one, by paired tests.",
)
@click.option(
    "--episodes",
    "n_worst",
    type=click.IntRange(min=0, max=20),
    default=2,
    show_default=True,
    help="Number of the worst episodes to draw again, for each group; 0 draws none.",
)
@click.option(
    "--classes",
    "with_confusion",
    is_flag=True,
    help="Compute all episodes again, to find the hardest classes and which are confused.",
)
@click.option(
    "--figures",
    type=PathType(file_okay=False, path_type=Path),
    help="A folder for figures (SVG, PDF, PNG), tables (CSV, LaTeX), BibTeX and configurations.",
)
def report(
    runs: Sequence[str],
    *,
    out: Path,
    compare: bool,
    n_worst: int,
    with_confusion: bool,
    figures: Path | None,
) -> None:
    """Write a report of runs or groups of runs as one HTML file that needs no other file.

    An id or uid stands for one run, and a name for the group of its seeds, as for `metafleet runs
    compare`. The report has the set-up, the results with intervals, figures, the worst episodes and
    the best one, the work of the fleet, the commands that repeat the runs, and BibTeX of the
    methods.

    \b
    metafleet report latest
    metafleet report baseline lr-0.01 --compare --out lr.html
    metafleet report latest --figures figures
    """
    settings = load_settings()
    require_folder(out, "--out")
    with open_records(settings, runs[0]) as database, progress_bar() as progress:
        found = make_report(
            database,
            settings,
            runs,
            ReportOptions(compare, n_worst, with_confusion),
            notify=notify,
            progress=progress,
        )
    n_bytes = write_report(found, out)
    notify(f"{n_bytes / 1000:.0f} kB")
    click.echo(str(out))
    if figures is not None:
        for path in write_figures(found, figures):
            click.echo(str(path))
