"""`metafleet data describe`: the meta-features of a data set."""

from collections.abc import Iterator

import click

from metafleet.contracts.device import prepare_process
from metafleet.describing.description import Description, Landmark
from metafleet.describing.figures import KIND
from metafleet.orchestrator.advice.descriptions import describe_and_store
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    open_database,
    private_data,
)
from metafleet.orchestrator.cli.data_choice import data_options, data_set_option, open_chosen
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.reporting.figures import percent, plus_minus


@click.command("describe")
@click.argument("name", type=RunName())
@data_set_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def describe_data_set(name: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Compute the meta-features of a prepared data set, and store them in the database.

    Meta-features are numbers that describe a data set: its sizes, and how well nearest prototypes
    do without training. The data must be prepared. NAME is the same as for `metafleet data
    inspect`.

    \b
    metafleet data describe glyphs
    metafleet data describe ~/pets --set label=species --json
    """
    settings = load_settings()
    options = data_options(name, assignments)
    bound = open_chosen(options, settings)
    prepare_process("cpu")
    with private_data(settings), progress_bar() as progress:
        if bound.is_ready():
            bound.prepare(progress)
        with open_database(settings) as database:
            found = describe_and_store(database, settings, options)
    if as_json:
        echo_json(found.to_json())
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Description) -> Iterator[str]:
    yield f"name        {found.name}"
    yield f"digest      {found.digest}"
    kinds = [name.removeprefix(KIND) for name in found.figures if name.startswith(KIND)]
    yield f"kinds       {', '.join(kinds)}"
    for name, value in found.figures.items():
        if not name.startswith(KIND):
            yield f"{name:<24}{value:>12,.4g}" if value % 1 else f"{name:<24}{value:>12,.0f}"
    for each in found.landmarks:
        yield f"{_landmark_name(each):<34}{_result(each)}"
    for encoder, numbers in found.embeddings.items():
        yield f"embedding   {len(numbers)} numbers, by {encoder}"
    for note in found.notes:
        yield f"note        {note}"


def _landmark_name(each: Landmark) -> str:
    ways = f"{each.n_way}-way " if each.n_way else ""
    what = "prototypes" if each.n_way else "nearest point"
    return f"{each.inputs} {what}, {ways}{each.k_shot}-shot"


def _result(each: Landmark) -> str:
    if each.measure == "accuracy":
        return f"{percent(each.mean, each.ci95)} ({each.episodes} episodes)"
    shown = plus_minus(each.mean, each.ci95)
    return f"{shown} of the variance explained ({each.episodes} episodes)"
