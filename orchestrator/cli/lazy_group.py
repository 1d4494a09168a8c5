"""A click group that imports a command only when it is used: importing torch takes a second."""

import importlib
from collections.abc import Mapping
from typing import NamedTuple

import click


class LazyCommand(NamedTuple):
    """A command's location, as "module:attribute", and its line in the help."""

    target: str
    short_help: str


class LazyGroup(click.Group):
    """A group that imports no command to show its help, and only one to run it."""

    commands_by_name: Mapping[str, LazyCommand] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of definition."""
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        command = self.commands_by_name.get(cmd_name)
        if command is None:
            return None
        module, _, attribute = command.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(n, c.short_help) for n, c in self.commands_by_name.items()])


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[LazyGroup]:
    """Return a group class with these commands, for ``click.group(cls=...)``."""
    return type("LazyGroup", (LazyGroup,), {"commands_by_name": dict(commands)})
