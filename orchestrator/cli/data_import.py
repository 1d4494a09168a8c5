"""`metafleet data import`: turn a folder of your own into a data set."""

import contextlib
import dataclasses
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from metafleet.contracts.settings import Settings
from metafleet.data import registry
from metafleet.data.decoding.registry import get_decoder, is_own
from metafleet.data.importing.importer import ImportReport, absolute_path, import_folder
from metafleet.data.importing.options import FolderOptions, Layout
from metafleet.data.importing.problems import DataProblem, count_kinds, counted, first_lines
from metafleet.data.importing.record import plain_name
from metafleet.data.summary import DataSummary
from metafleet.encoders.registry import with_absolute_path
from metafleet.errors import ConfigError, DataError
from metafleet.files import write_whole
from metafleet.orchestrator.cli.arguments import OutputFile, PathType
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    preparing_weights,
    private_data,
)
from metafleet.orchestrator.cli.data_fleet import encoding, fleet_option
from metafleet.orchestrator.cli.data_view import describe_summary, progress_bar, summary_json
from metafleet.orchestrator.config.source import parse_value


@click.command("import")
@click.argument("folder", type=PathType(path_type=Path))
@click.option("--name", help="Name of the data set; default: the folder's name.")
@click.option("--layout", type=click.Choice(get_args(Layout)), default="auto", show_default=True)
@click.option("--label", default="", help="The column with the class.")
@click.option(
    "--label-separator",
    default="",
    metavar="TEXT",
    help='Items have several labels, with this text between them, e.g. ";".',
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="MODALITY=COLUMN",
    help="Read only this column as this modality. Give several numeric columns with commas.",
)
@click.option(
    "--kind",
    "own_kinds",
    multiple=True,
    metavar="PACKAGE.MODULE:CLASS",
    help="A kind of data of your own; it takes precedence over others that read the same suffix.",
)
@click.option(
    "--split", type=click.Choice(("auto", "given", "hashed")), default="auto", show_default=True
)
@click.option("--split-column", default="", help="The column with the split.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for hashed splits.")
@click.option(
    "--fractions",
    default="0.6,0.2,0.2",
    show_default=True,
    metavar="TRAIN,VAL,TEST",
    help="Shares of the classes in hashed splits.",
)
@click.option(
    "--min-items",
    type=int,
    default=2,
    show_default=True,
    help="Minimum number of items in a class.",
)
@click.option("--skip-bad", is_flag=True, help="Skip broken items and list them.")
@click.option(
    "--problems",
    "problems_file",
    type=OutputFile(),
    help="Write all problems to this file, one JSON object per line.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KIND.OPTION=VALUE",
    help="An option of a decoder, e.g. --set image.side=84.",
)
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def import_data(  # noqa: PLR0913 - one for each option
    folder: Path,
    *,
    name: str | None,
    layout: Layout,
    label: str,
    label_separator: str,
    columns: Sequence[str],
    own_kinds: Sequence[str],
    split: str,
    split_column: str,
    seed: int,
    fractions: str,
    min_items: int,
    skip_bad: bool,
    problems_file: Path | None,
    assignments: Sequence[str],
    over_fleet: bool,
    as_json: bool,
) -> None:
    """Read FOLDER (or a manifest, tar or HDF5 file in it), decode it once, and give it a name.

    The command lists every problem. If there are problems, it imports nothing, unless you give
    --skip-bad.

    \b
    metafleet data import ~/pets
    metafleet data import ~/pets/pets.csv --label species --column image=photo --seed 3
    metafleet data import ~/birds --skip-bad --problems problems.jsonl --set image.side=84
    """
    values: dict[str, Any] = {
        "name": "folder",
        "path": str(absolute_path(folder)),
        "layout": layout,
        "label": label,
        "label_separator": label_separator,
        "columns": dict(_pair(text, "--column", "MODALITY=COLUMN") for text in columns),
        "split": split,
        "split_column": split_column,
        "split_seed": seed,
        "split_fractions": _fractions(fractions),
        "min_items": min_items,
        "skip_bad": skip_bad,
    }
    settings = load_settings() if over_fleet else Settings.load()
    own = {_short_name(kind, settings): {"name": kind} for kind in own_kinds}
    values["kinds"] = list(own.values())
    for assignment in assignments:
        _assign(values, own, assignment)
    options: FolderOptions = registry.open_data(values, Path()).options
    called = plain_name(absolute_path(folder)) if name is None else name
    if called in registry.DATASETS:
        raise ConfigError(f"name {called!r} is that of a built-in data set; give another by --name")
    if problems_file is not None:
        _check_writable(problems_file)  # not after an hour of decoding
    with (
        progress_bar() as progress,
        private_data(settings),
        preparing_weights(settings),
        encoding(settings, over_fleet),
    ):
        report = import_folder(
            options,
            settings.data_dir,
            name=called,
            progress=progress,
            allowed_packages=settings.allowed_packages,
        )
    if problems_file is not None:
        _write_problems(problems_file, report.problems)
    _show(report, called, settings, as_json=as_json)


def _show(report: ImportReport, name: str, settings: Settings, *, as_json: bool) -> None:
    is_refused = report.prepared is None
    summary = None if is_refused else _summarise(name, settings)
    if as_json:
        echo_json(
            {
                "name": name,
                "is_imported": not is_refused,
                "notes": report.notes,
                "problems": [dataclasses.asdict(problem) for problem in report.problems],
                "summary": None if summary is None else summary_json(summary),
            }
        )
    else:
        for line in _lines(report, name):
            click.echo(line, err=is_refused)
        for line in [] if summary is None else describe_summary(summary):
            click.echo(line)
    if is_refused:
        raise click.exceptions.Exit(1)


def _lines(report: ImportReport, name: str) -> Iterator[str]:
    if report.prepared is None:  # otherwise the summary shows them
        yield from report.notes
    yield from first_lines(report.problems, "; --problems FILE writes all")
    n = len(report.problems)
    if report.prepared is None:
        yield f"{name} was not imported: {counted(report.problems)}; {_advice(report.problems)}"
    elif n:
        yield f"left out: {counted(report.problems)}"


def _advice(problems: Sequence[DataProblem]) -> str:
    """Return how to fix the problems; with fatal ones, still name those that can be skipped."""
    fatal = [problem for problem in problems if problem.is_fatal]
    them = "it" if len(problems) == 1 else "them"
    if not fatal:
        return f"fix {them}, or leave {them} out with --skip-bad"
    if len(fatal) == len(problems):
        return f"fix {them}"
    return f"fix {count_kinds(fatal)}; --skip-bad leaves out the rest"


def _summarise(name: str, settings: Settings) -> DataSummary:
    options, allowed = {"name": "folder", "imported": name}, settings.allowed_packages
    return registry.open_data(options, settings.data_dir, allowed_packages=allowed).summarise()


def _short_name(kind: str, settings: Settings) -> str:
    """Import a kind of the user's and return the short name that its options use."""
    if not is_own(kind):
        raise ConfigError(f"--kind {kind!r}; expected a class of yours, as package.module:Class")
    return get_decoder(kind, allowed_packages=settings.allowed_packages).short_name


def _pair(text: str, option: str, expected: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (separator and name.strip() and value.strip()):
        raise ConfigError(f"{option} {text!r}; expected {expected}")
    return name.strip(), value.strip()


def _assign(values: dict[str, Any], own: dict[str, dict[str, Any]], assignment: str) -> None:
    """Set a decoder's option in its table: that of the user's own kind, or of a built-in one."""
    expected = "KIND.OPTION=VALUE, such as image.side=84"
    key, text = _pair(assignment, "--set", expected)
    kind, dot, option = key.partition(".")
    tables = own if kind in own else values
    if not dot or not option or not isinstance(tables.get(kind, {}), dict) or kind == "columns":
        raise ConfigError(f"--set {assignment!r}; expected {expected}")
    value = parse_value(text)
    if option == "encoder" and isinstance(value, str):
        value = with_absolute_path(value)  # the record is read in other working folders
    tables.setdefault(kind, {})[option] = value


def _fractions(text: str) -> list[float]:
    try:
        return [float(share) for share in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--fractions {text!r}; expected three shares, such as 0.6,0.2,0.2"
        ) from None


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, without touching its present content."""
    with _readable_errors(path), tempfile.TemporaryFile(dir=path.parent):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _write_problems(path: Path, problems: Sequence[DataProblem]) -> None:
    lines = [json.dumps(dataclasses.asdict(problem), ensure_ascii=False) for problem in problems]
    with _readable_errors(path):
        write_whole(path, "".join(f"{line}\n" for line in lines).encode(), mode=None)


@contextlib.contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}); choose another file") from error
