"""docs/reference/cli.md: every command, its options and its help."""

import inspect
from collections.abc import Iterator

import click

from metafleet.orchestrator.cli.main import cli
from tests.pages.docstrings import markdown, table

_HEAD = """# Command line

`make pages` writes this page from the help of each command, which `--help` also shows.
"""


def render() -> str:
    """Return the page."""
    root = click.Context(cli, info_name="metafleet")
    return "\n".join([_HEAD, *_command(root)])


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## `{context.command_path}`\n"
    yield f"```text\n{context.command_path} {usage}\n```\n"
    yield from _help(command.help or "")
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    rows = [_row(option, context) for option in options if "--help" not in option.opts]
    if rows:
        yield from table("option", "meaning", rows=rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _command(click.Context(found, parent=context, info_name=name))


def _help(text: str) -> Iterator[str]:
    """Yield paragraphs; those that click keeps as they are become blocks."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield f"```text\n{paragraph.removeprefix(chr(8)).strip()}\n```\n"
        else:
            yield paragraph + "\n"


def _row(option: click.Option, context: click.Context) -> tuple[str, str]:
    record = option.get_help_record(context)
    assert record is not None
    names, meaning = record
    return f"`{markdown(names)}`", markdown(meaning)
