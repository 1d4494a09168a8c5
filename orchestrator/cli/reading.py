"""Options that all commands share that read a folder of items."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from metafleet.data.importing.options import Layout
from metafleet.errors import ConfigError
from metafleet.inference.items import ReadOptions

_OPTIONS = (
    click.option(
        "--layout", type=click.Choice(get_args(Layout)), default="auto", show_default=True
    ),
    click.option("--label", default="", help="The column with the class."),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="MODALITY=COLUMN",
        help="In a table, read this column as this modality. In a folder, give a kind of file as "
        "COLUMN, such as image.",
    ),
    click.option("--skip-bad", is_flag=True, help="Skip broken items and list them."),
    click.option(
        "--invert/--no-invert",
        default=None,
        help="Always or never swap light and dark in pictures; default: report inverted ones.",
    ),
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options that say how a folder is read: layout, label, columns, skip_bad, invert."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_options(
    *, layout: Layout, label: str, columns: Sequence[str], skip_bad: bool, invert: bool | None
) -> ReadOptions:
    """Return ``ReadOptions`` with the values of the options for reading a folder.

    Raises:
        ConfigError: a column is not given as MODALITY=COLUMN.
    """
    pairs = [text.partition("=") for text in columns]
    for modality, _, column in pairs:
        if not modality or not column:
            raise ConfigError(f"--column {modality!r}; expected MODALITY=COLUMN")
    named = {modality: column for modality, _, column in pairs}
    return ReadOptions(layout=layout, label=label, columns=named, skip_bad=skip_bad, invert=invert)


def is_model(text: str) -> bool:
    """Return whether ``text`` is the folder of a model, not the name of a run."""
    return (Path(text).expanduser() / "model.json").exists()
