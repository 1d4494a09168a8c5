"""`metafleet suggest`: configurations for a data set, from runs on similar data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape

from metafleet.contracts.device import prepare_process
from metafleet.errors import ConfigError
from metafleet.files import write_whole
from metafleet.orchestrator.advice.knowledge import Knowledge, gather_knowledge
from metafleet.orchestrator.advice.ranking import Ranked
from metafleet.orchestrator.advice.suggesting import Suggestions, suggest_for
from metafleet.orchestrator.cli.arguments import OutputFile, RunName
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    open_database,
    private_data,
)
from metafleet.orchestrator.cli.data_choice import data_options, data_set_option, open_chosen
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.tables import make_table, show_rows
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify, program

_MOST_NAMED: Final = 3


@click.command()
@click.argument("name", type=RunName())
@data_set_option
@click.option(
    "--out", type=OutputFile(), help="Write the first suggestion as an experiment file (.toml)."
)
@click.option(
    "--top",
    type=click.IntRange(min=1, max=100),
    default=5,
    show_default=True,
    help="How many configurations to show.",
)
@click.option("--n-way", type=click.IntRange(min=2), help="Classes in an episode of the file.")
@click.option("--k-shot", type=click.IntRange(min=1), help="Support examples of each class.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def suggest(  # noqa: PLR0913 - one for each option
    name: str,
    *,
    assignments: tuple[str, ...],
    out: Path | None,
    top: int,
    n_way: int | None,
    k_shot: int | None,
    as_json: bool,
) -> None:
    """Suggest configurations for the data set NAME, from finished runs on similar data sets.

    The data must be prepared. Similar data sets are found by their meta-features, see `metafleet
    data describe`. If the database has no runs that can be compared, suggestions come from results
    that Metafleet ships.

    \b
    metafleet suggest glyphs
    metafleet suggest ~/pets --set label=species --out pets.toml
    """
    if out is not None and out.suffix.lower() != ".toml":
        raise ConfigError(f"--out {str(out)!r}: expected the name of a file in .toml")
    settings = load_settings()
    options = data_options(name, assignments)
    bound = open_chosen(options, settings)
    prepare_process("cpu")
    with private_data(settings), progress_bar() as progress:
        if bound.is_ready():
            bound.prepare(progress)
        with open_database(settings) as database:
            known = gather_knowledge(database, settings, options)
    found = suggest_for(known, settings, options, top=top, n_way=n_way, k_shot=k_shot)
    if out is not None:
        _write(out, found)
    if as_json:
        echo_json(found.to_json() | {"file": None if out is None else str(out)})
        return
    _show(known, found)
    if out is not None:
        click.echo(f"wrote {out}; start it with: {program()} submit {out}")
    else:
        click.echo("to write the first one to an experiment file, add --out FILE.toml")


def _write(out: Path, found: Suggestions) -> None:
    text = found.file_text()
    try:
        write_whole(out, text.encode(), mode=None)
    except OSError as error:
        raise ConfigError(
            f"--out {out} cannot be written ({error.strerror or error}); choose another file"
        ) from error


def _show(known: Knowledge, found: Suggestions) -> None:
    for note in found.notes:
        notify(note)
    keys = found.differing_keys
    headings = ("", *keys, "mean rank", "expected rank", "best runs")
    table = make_table(*headings, right=headings[:-1])
    for place, ranked in enumerate(found.ranked, 1):
        cells = [_cell(ranked.values, key) for key in keys]
        ranks = (f"{ranked.average_rank:.2f}", f"{ranked.predicted_rank:.2f}")
        table.add_row(str(place), *cells, *ranks, escape(_voters(ranked)))
    show_rows(table)
    same = {key: found.ranked[0].values[key] for key in found.common_keys}
    if same:
        click.echo(f"the same in all: {', '.join(f'{k}={shown(v)}' for k, v in same.items())}")
    click.echo(f"similar: {_near(found)}")
    origin = "results that Metafleet ships" if known.is_portfolio else "runs in the database"
    click.echo(
        f"evidence: {counted(known.n_runs, 'run')} on {counted(known.n_sets, 'data set')} "
        f"({origin})"
    )
    click.echo(found.confidence())


def _cell(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "-"
    value = values[key]
    return escape(f"{value:.4g}" if isinstance(value, float) else shown(value))


def _voters(ranked: Ranked) -> str:
    """Name the nearest votes for a configuration: "glyphs 12, 14; fsdd 3"."""
    named = []
    for vote in ranked.votes[:_MOST_NAMED]:
        runs = f" run {', '.join(map(str, vote.runs[:_MOST_NAMED]))}" if vote.runs else ""
        named.append(f"{vote.data}{runs} (rank {vote.rank:.2f})")
    return "; ".join(named)


def _near(found: Suggestions) -> str:
    near: Sequence[tuple[str, float]] = found.near[:_MOST_NAMED]
    return ", ".join(f"{data} (distance {distance:.2f})" for data, distance in near)
