"""`metafleet runs`: list, show, watch, cancel and resume runs."""

import click

from metafleet.orchestrator.cli.lazy_group import LazyCommand, lazy_group

_COMMANDS = {
    "list": LazyCommand(
        "metafleet.orchestrator.cli.runs_list:list_runs", "Find, sort and group runs."
    ),
    "show": LazyCommand(
        "metafleet.orchestrator.cli.runs_show:show_run", "Show everything about a run."
    ),
    "curve": LazyCommand("metafleet.orchestrator.cli.curve:curve", "Draw a run's learning curve."),
    "attach": LazyCommand(
        "metafleet.orchestrator.cli.attach:attach", "Watch a run that another process executes."
    ),
    "cancel": LazyCommand("metafleet.orchestrator.cli.cancel:cancel", "Stop a run on any host."),
    "resume": LazyCommand(
        "metafleet.orchestrator.cli.resume:resume", "Continue a run, with the same bits."
    ),
}


@click.group(cls=lazy_group(_COMMANDS))
def runs() -> None:
    """List, show, watch, cancel and resume runs.

    A RUN is an id, a uid, a name (the newest of that name) or `latest`.
    """
