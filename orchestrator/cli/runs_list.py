"""`metafleet runs list`: find, sort and group runs."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import click
from rich.markup import escape
from rich.table import Table

from metafleet.contracts.settings import Settings
from metafleet.db.records import RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.cli.context import echo_json, is_unused, load_settings, open_database
from metafleet.orchestrator.cli.run_words import STATUS_STYLES, owner_of
from metafleet.orchestrator.cli.tables import fits, make_table, show_rows
from metafleet.orchestrator.records.entry import RESULT_KEYS, RESULTS, Entry
from metafleet.orchestrator.records.grouping import Group, differing_keys
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.run_view import without_nan
from metafleet.orchestrator.records.selecting import (
    Selection,
    select_groups,
    select_runs,
    split_keys,
)
from metafleet.orchestrator.reporting.figures import figure
from metafleet.orchestrator.reporting.output import hint

_MOST_RUNS: Final = 10**9
_COLUMNS: Final = (
    ("id", "uid", "name", "seed", "status", "steps", "created", "best", "last", "test"),
    ("id", "name", "seed", "status", "steps", "best", "last"),
)
"""Columns of a list, and those of a list on a narrow terminal."""
_GROUP_COLUMNS: Final = ("runs", "seeds", "experiment", "best", "last", "test")
_MOST_DIFFERING: Final = 5
_FILE_COLUMNS: Final = (
    *("id", "uid", "name", "experiment", "seed", "status", "steps", "created"),
    *("best", "best.ci95", "last", "last.ci95", "test", "test.ci95"),
)
_LEFT: Final = ("uid", "name", "experiment", "status", "owner", "host", "tags", "note")
_TIMES: Final = ("created", "started", "finished")
_RUNNING: Final = RunStatus.RUNNING.value
_NO_RUNS: Final = "no runs yet; start one with `metafleet submit FILE`, or `metafleet demo`"


@click.command("list")
@click.option(
    "--where",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="List only these, e.g. 'learner.name=maml and best>90%'; repeated filters must all hold.",
)
@click.option(
    "--sort",
    default="",
    metavar="KEYS",
    help="Sort by these keys, separated by commas; -KEY for descending order.",
)
@click.option("--columns", default="", metavar="KEYS", help="Show these keys, separated by commas.")
@click.option("--group", is_flag=True, help="One line per group of runs that differ in the seed.")
@click.option("--archived", is_flag=True, help="Include archived runs.")
@click.option("--limit", type=click.IntRange(min=1, max=_MOST_RUNS), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def list_runs(  # noqa: PLR0913 - one for each option
    *,
    filters: Sequence[str],
    sort: str,
    columns: str,
    group: bool,
    archived: bool,
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List runs, newest first, each with its best and last meta-validation and its meta-test.

    Intervals are 95 % intervals. The interval of a run is an interval over episodes. The interval
    of a group is an interval over seeds. The numbers of a group are computed from all runs of the
    group, even if the list is limited to fewer lines.

    \b
    metafleet runs list --limit 5
    metafleet runs list --where 'outer.lr<0.01 and status=finished' --sort -best
    metafleet runs list --group --sort -test --columns runs,learner.name,outer.lr,test
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two forms of the same list; choose one")
    wanted = Selection.parse(
        filters, sort, shown_keys=split_keys(columns), with_archived=archived, limit=limit
    )
    found, advice = _read(load_settings(), wanted, select_groups if group else select_runs)
    if as_json:
        echo_json(without_nan([_document(item, wanted.shown_keys) for item in found]))
    elif as_csv:
        _print_csv(found, wanted.shown_keys or _file_columns(found))
    elif found:
        show_rows(_fitting_table(found, wanted.shown_keys))
    else:
        click.echo(hint(advice))


Item = Entry | Group


def _read(
    settings: Settings, wanted: Selection, select: Callable[..., Sequence[Item]]
) -> tuple[Sequence[Item], str]:
    """Return the wanted items, and what to say if there are none."""
    if is_unused(settings):
        return (), _NO_RUNS
    with open_database(settings) as database, database.session(read_only=True) as session:
        found = select(session, wanted)
        runs = RunRepository(session)
        if found or not runs.list(limit=1):
            return found, _NO_RUNS
        is_hidden = wanted.hides_archived and runs.list(limit=1, archived=True)
        return (), f"no run matches{'; --archived includes archived runs' if is_hidden else ''}"


def _fitting_table(found: Sequence[Item], columns: Sequence[str]) -> Table:
    """Return a table of the chosen columns, or of the most default columns that fit."""
    if columns:
        return _table(found, columns)
    if isinstance(found[0], Group):
        return _table(found, _group_columns(found))
    wide, narrow = _COLUMNS
    is_owned = any(item.value("owner") for item in found if item.value("status") == _RUNNING)
    table = _table(found, (*wide, "owner") if is_owned else wide)
    return table if fits(table) else _table(found, narrow)


def _table(found: Sequence[Item], columns: Sequence[str]) -> Table:
    right = tuple(key for key in columns if key not in (*_LEFT, *_TIMES))
    fold = next((key for key in ("name", "experiment", "note") if key in columns), "")
    headings = {key: f"{key} (UTC)" if key in _TIMES else key for key in columns}
    table = make_table(*headings.values(), right=right, fold=fold, least_width=10)
    for item in found:
        table.add_row(*(_cell(item, key) for key in columns))
    return table


def _group_columns(groups: Sequence[Item]) -> tuple[str, ...]:
    known = [group for group in groups if isinstance(group, Group)]
    differing = differing_keys(known)[:_MOST_DIFFERING]
    return (*_GROUP_COLUMNS[:3], *differing, *_GROUP_COLUMNS[3:])


def _file_columns(found: Sequence[Item]) -> tuple[str, ...]:
    if not found or isinstance(found[0], Entry):
        return _FILE_COLUMNS
    intervals = [f"{name}{end}" for name in RESULTS for end in ("", ".ci95")]
    return (*_group_columns(found)[: -len(RESULTS)], *intervals)


def _cell(item: Item, key: str) -> str:
    value = item.value(key)
    if value is None:
        return "-"
    if key in RESULTS:
        return _result(item, key)
    if isinstance(item, Entry):
        if key == "status":
            style = STATUS_STYLES.get(item.run.status, "")
            return f"[{style}]{value}[/]" if style else str(value)
        if key == "steps":
            return f"{value}/{item.run.n_steps}"
        if key == "owner":
            return owner_of(item.run) or "-"
    return escape(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return " ".join(_plain(item) for item in value)
    return " ".join(shown(value).split())


def _result(item: Item, key: str) -> str:
    """Return a result with its interval. The last result of a run has none, to save room."""
    interval = None if isinstance(item, Entry) and key == "last" else item.value(f"{key}.ci95")
    text = figure(item.value(key), interval, is_share=item.is_share(key))
    mean = item.mean(key) if isinstance(item, Group) else None
    return text if mean is None or mean.n == item.value("seeds") else f"{text} (n={mean.n})"


def _document(item: Item, columns: Sequence[str]) -> dict[str, Any]:
    """Return JSON values: the chosen keys, else everything."""
    if columns:
        return {key: item.value(key) for key in columns}
    if isinstance(item, Entry):
        results = {name: asdict(result) for name, result in item.results.items()}
        return asdict(item.run) | {"tags": list(item.tags), "results": results}
    means = {key: item.mean(key) for key in RESULT_KEYS if not key.endswith("ci95")}
    return {
        "runs": [entry.run.id for entry in item.entries],
        "seeds": sorted({entry.run.seed for entry in item.entries}),
        **{key: item.value(key) for key in ("experiment", "name", "status", "data", "code")},
        "config": dict(item.config),
        "results": {key: asdict(mean) for key, mean in means.items() if mean is not None},
    }


def _print_csv(found: Sequence[Item], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for item in found:
        values = (item.value(key) for key in columns)
        writer.writerow(["" if value is None else _exact(value) for value in values])
    click.echo(text.getvalue(), nl=False)


def _exact(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, int | float) else shown(value)
