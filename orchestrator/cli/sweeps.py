"""`metafleet sweeps`: list, show, draw, export and cancel sweeps."""

import click

from metafleet.orchestrator.cli.lazy_group import LazyCommand, lazy_group

_COMMANDS = {
    "list": LazyCommand("metafleet.orchestrator.cli.sweeps_list:list_sweeps", "List all sweeps."),
    "show": LazyCommand(
        "metafleet.orchestrator.cli.sweeps_show:show", "Show the trials of a sweep, the best first."
    ),
    "draw": LazyCommand("metafleet.orchestrator.cli.sweeps_draw:draw", "Draw a sweep."),
    "export": LazyCommand(
        "metafleet.orchestrator.cli.sweeps_export:export", "Write a file for optuna-dashboard."
    ),
    "cancel": LazyCommand(
        "metafleet.orchestrator.cli.sweeps_cancel:cancel", "Stop a sweep and its open trials."
    ),
}


@click.group(cls=lazy_group(_COMMANDS))
def sweeps() -> None:
    """List, show, draw, export and cancel sweeps. `metafleet sweep` begins and continues them."""
