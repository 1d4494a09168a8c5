"""`metafleet data`: list, prepare and inspect the data sets."""

import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from metafleet.contracts.settings import Settings
from metafleet.data import registry
from metafleet.data.importing.record import get_record, imported_names
from metafleet.errors import ConfigError, DataError
from metafleet.options import option_hints, option_values
from metafleet.orchestrator.cli.arguments import OutputFile, RunName
from metafleet.orchestrator.cli.context import (
    echo_json,
    load_settings,
    preparing_weights,
    private_data,
)
from metafleet.orchestrator.cli.data_choice import data_options, data_set_option, open_chosen
from metafleet.orchestrator.cli.data_describe import describe_data_set
from metafleet.orchestrator.cli.data_fleet import encoding, fleet_option
from metafleet.orchestrator.cli.data_import import import_data
from metafleet.orchestrator.cli.data_view import describe_summary, progress_bar, summary_json
from metafleet.orchestrator.reporting.output import notify


@click.group("data")
def data() -> None:
    """List, prepare, import and inspect data sets."""


data.add_command(import_data)
data.add_command(describe_data_set)


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_data(as_json: bool) -> None:
    """List the data sets, their options, and whether they are ready for use.

    \b
    metafleet data list
    """
    data_dir = Settings.load().data_dir
    entries = [_describe(name, data_dir) for name in sorted(registry.DATASETS)]
    imported = [_describe_import(name, data_dir) for name in imported_names(data_dir)]
    if as_json:
        echo_json(entries + imported)
        return
    for entry in entries:
        state = "ready" if entry["is_ready"] else f"run `metafleet data prepare {entry['name']}`"
        if registry.is_made_of_parts(entry["name"]):
            state = "ready when its parts are"
        if entry["problem"]:
            state = f"cannot be used: {entry['problem']}"
        click.echo(f"{entry['name']:<10} {entry['title']} ({state})")
        for option in entry["options"]:
            click.echo(
                f"{'':<10}   {option['name']} = {_toml(option['default'])}  {option['type']}"
            )
    for entry in imported:
        click.echo(f"{entry['name']:<10} {entry['title']} (imported)")


@data.command("prepare")
@click.argument("name", type=RunName())
@data_set_option
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def prepare_data(name: str, assignments: tuple[str, ...], over_fleet: bool, as_json: bool) -> None:
    """Download and prepare a data set, unless the data set is ready for use already.

    \b
    metafleet data prepare omniglot
    metafleet data prepare omniglot --set root=/data/torchvision --set rotations=true
    metafleet data prepare fsdd --set audio.encoder=package:speech-embedding --fleet
    """
    settings = load_settings() if over_fleet else Settings.load()
    data = open_chosen(data_options(name, assignments), settings)
    with (
        progress_bar() as progress,
        private_data(settings),
        preparing_weights(settings),
        encoding(settings, over_fleet),
    ):
        data.prepare(progress)
    summary = data.summarise()
    if as_json:
        echo_json(summary_json(summary))
        return
    click.echo(f"{name} is ready: {summary.location or 'nothing to store'}")
    click.echo(f"digest {summary.digest}")


@data.command("inspect")
@click.argument("name", type=RunName())
@data_set_option
@click.option(
    "--sheet",
    type=OutputFile(),
    help="Write a PNG with some items of each split.",
)
@click.option("--verify", is_flag=True, help="Read every byte and compare its sha256.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def inspect_data(
    name: str, assignments: tuple[str, ...], sheet: Path | None, verify: bool, as_json: bool
) -> None:
    """Show a data set's digest and licence, and the numbers of classes and items in each split.

    NAME is a data set, "package.module:Class", the name of an imported folder, or a folder. With
    --sheet, the command draws some items.

    \b
    metafleet data inspect glyphs --sheet glyphs.png
    metafleet data inspect ~/pets --set label=species --json
    """
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ConfigError(f"--sheet {str(sheet)!r}; a sheet is a PNG: expected a name in .png")
    options, settings = data_options(name, assignments), Settings.load()
    data = open_chosen(options, settings)
    with progress_bar() as progress:
        if data.is_ready():
            data.prepare(progress)
        summary = data.summarise()
    if verify:
        data.verify()
    if sheet is not None:
        allowed = settings.allowed_packages
        note = registry.draw_sheet(options, settings.data_dir, sheet, allowed_packages=allowed)
        if note:
            notify(note)
    if as_json:
        echo_json(summary_json(summary) | {"sheet": None if sheet is None else str(sheet)})
        return
    for line in describe_summary(summary):
        click.echo(line)
    if verify:
        click.echo("verified    every byte is as prepared")
    if sheet is not None:
        click.echo(f"sheet       {sheet}")


def _describe(name: str, data_dir: Path) -> dict[str, Any]:
    """Describe a data set; name the problem if its folder is damaged or incomplete."""
    dataset = registry.DATASETS[name]
    try:
        is_ready, problem = registry.open_data({"name": name}, data_dir).is_ready(), ""
    except DataError as error:
        is_ready, problem = False, str(error)
    return {
        "name": name,
        "title": dataset.title,
        "licence": dataset.licence,
        "origin": dataset.origin,
        "is_ready": is_ready,
        "problem": problem,
        "options": _describe_options(dataset.Options),
    }


def _describe_import(name: str, data_dir: Path) -> dict[str, Any]:
    """Describe an imported folder like a data set; name the problem if its record is damaged."""
    options: dict[str, Any] = {"name": "folder", "imported": name}
    try:
        origin, problem = get_record(data_dir, name).options.path, ""
    except DataError as error:
        origin = problem = str(error)
    return {
        "name": name,
        "title": origin,
        "licence": registry.DATASETS["folder"].licence,
        "origin": origin,
        "is_ready": not problem,
        "problem": problem,
        "options": [],
        "data": options,
    }


def _describe_options(options: type[Any]) -> list[dict[str, Any]]:
    defaults = option_values(options())
    return [
        {"name": name, "type": _type_name(hint), "default": defaults[name]}
        for name, hint in option_hints(options).items()
    ]


def _toml(value: Any) -> str:
    """Format an option's default as in a configuration file."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # JSON and TOML agree on the rest


def _type_name(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(f'"{choice}"' for choice in arguments)
    if typing.get_origin(hint) is tuple:
        return f"list of {_type_name(arguments[0])}"
    if typing.get_origin(hint) is Mapping:
        return "table"
    names = {int: "whole number", float: "number", bool: "true | false", str: "text"}
    return names.get(hint, str(hint))
