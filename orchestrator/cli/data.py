"""`metafleet data`: list, prepare and inspect the data sets."""

import dataclasses
import json
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from contracts.settings import Settings
from metafleet.data import registry
from metafleet.data.summary import DataSummary, Progress
from metafleet.errors import ConfigError
from orchestrator.cli.context import echo_json
from orchestrator.config_source import parse_value

_SET_HELP = "An option of the data set, such as --set split=lake or --set rotations=true."


@click.group("data")
def data() -> None:
    """List, prepare and inspect data sets."""


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_data(as_json: bool) -> None:
    """Say which data sets there are, their options, and whether they are ready for use.

    \b
    metafleet data list
    """
    data_dir = Settings.load().data_dir
    entries = [_describe(name, data_dir) for name in sorted(registry.DATASETS)]
    if as_json:
        echo_json(entries)
        return
    for entry in entries:
        state = "ready" if entry["is_ready"] else f"run `metafleet data prepare {entry['name']}`"
        click.echo(f"{entry['name']:<10} {entry['title']} ({state})")
        for option in entry["options"]:
            click.echo(
                f"{'':<10}   {option['name']} = {_toml(option['default'])}  {option['type']}"
            )


@data.command("prepare")
@click.argument("name")
@click.option("--set", "assignments", multiple=True, metavar="OPTION=VALUE", help=_SET_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def prepare_data(name: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Download and prepare a data set; harmless when that was done before.

    \b
    metafleet data prepare omniglot
    metafleet data prepare omniglot --set root=/data/torchvision --set rotations=true
    """
    data_dir = Settings.load().data_dir
    options = _parse_options(name, assignments)
    with _progress_bar() as progress:
        registry.prepare(options, data_dir, progress)
    summary = registry.summarise(options, data_dir)
    if as_json:
        echo_json(_to_json(summary))
        return
    click.echo(f"{name} is ready: {summary.location or 'nothing to store'}")
    click.echo(f"digest {summary.digest}")


@data.command("inspect")
@click.argument("name")
@click.option("--set", "assignments", multiple=True, metavar="OPTION=VALUE", help=_SET_HELP)
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a PNG with some items of each split.",
)
@click.option("--verify", is_flag=True, help="Read every byte and compare its sha256.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def inspect_data(
    name: str, assignments: tuple[str, ...], sheet: Path | None, verify: bool, as_json: bool
) -> None:
    """Count classes and items of each split, name digest and licence, and draw a sheet.

    \b
    metafleet data inspect glyphs --sheet glyphs.png
    """
    data_dir = Settings.load().data_dir
    options = _parse_options(name, assignments)
    with _progress_bar() as progress:
        if registry.is_ready(options, data_dir):
            registry.prepare(options, data_dir, progress)
        summary = registry.summarise(options, data_dir)
    if verify:
        registry.verify(options, data_dir)
    if sheet is not None:
        registry.draw_sheet(options, data_dir, sheet)
    if as_json:
        echo_json(_to_json(summary) | {"sheet": None if sheet is None else str(sheet)})
        return
    for line in _describe_summary(summary):
        click.echo(line)
    if verify:
        click.echo("verified    every byte is as prepared")
    if sheet is not None:
        click.echo(f"sheet       {sheet}")


def _describe(name: str, data_dir: Path) -> dict[str, Any]:
    dataset = registry.DATASETS[name]
    return {
        "name": name,
        "title": dataset.title,
        "licence": dataset.licence,
        "origin": dataset.origin,
        "is_ready": registry.is_ready({"name": name}, data_dir),
        "options": _describe_options(dataset.Options),
    }


def _describe_options(options: type[Any]) -> list[dict[str, Any]]:
    hints = typing.get_type_hints(options)
    return [
        {"name": f.name, "type": _type_name(hints[f.name]), "default": f.default}
        for f in dataclasses.fields(options)
    ]


def _toml(value: Any) -> str:
    """Write an option's default as a configuration file would."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # the rest is written alike in both


def _type_name(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(f'"{choice}"' for choice in arguments)
    if typing.get_origin(hint) is tuple:
        return f"list of {_type_name(arguments[0])}"
    names = {int: "whole number", float: "number", bool: "true | false", str: "text"}
    return names.get(hint, str(hint))


def _parse_options(name: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {"name": name}
    for assignment in assignments:
        option, separator, text = assignment.partition("=")
        if not separator or not option:
            raise ConfigError(f"--set {assignment!r}; expected OPTION=VALUE")
        options[option.strip()] = parse_value(text.strip())
    registry.validate_options(options)
    return options


def _to_json(summary: DataSummary) -> dict[str, Any]:
    fields = {f.name: getattr(summary, f.name) for f in dataclasses.fields(summary)}
    for part in ("splits", "modalities"):
        fields[part] = {name: dataclasses.asdict(value) for name, value in fields[part].items()}
    fields["facts"] = dict(summary.facts)
    fields["location"] = None if summary.location is None else str(summary.location)
    return fields


def _describe_summary(summary: DataSummary) -> Iterator[str]:
    yield f"name        {summary.name}"
    yield f"digest      {summary.digest}"
    if summary.split_sha256:
        yield f"split       {summary.split_sha256}"
    yield f"location    {summary.location or 'nothing is stored'}"
    yield f"licence     {summary.licence}"
    yield f"origin      {summary.origin}"
    for modality, about in summary.modalities.items():
        shape = "x".join(map(str, about.shape))
        items = f", {about.items:,} items have it" if about.items else ""
        yield f"modality    {modality} {shape}{items}"
    for split, holds in summary.splits.items():
        each = f"{holds.fewest_items} to {holds.most_items}"
        if holds.fewest_items == holds.most_items:
            each = str(holds.most_items)
        yield f"{split:<11} {holds.classes:,} classes, {holds.items:,} items, {each} a class"
        yield f"{'':<11} {', '.join(f'{group} {n}' for group, n in holds.groups.items())}"
    for fact, value in summary.facts.items():
        yield f"fact        {fact}: {value}"


@contextmanager
def _progress_bar() -> Iterator[Progress | None]:
    """Show a bar on standard error when a person is watching."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, most commands need none
    from rich.progress import Progress as Bar  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total or None)
            bar.update(tasks[stage], completed=done, total=total or None)

        yield show
