"""`metafleet runs`: list, show, resume."""

import click

from orchestrator.cli.lazy_group import LazyCommand, lazy_group

_COMMANDS = {
    "list": LazyCommand("orchestrator.cli.runs_view:list_runs", "List runs, newest first."),
    "show": LazyCommand("orchestrator.cli.runs_view:show_run", "Show all there is about a run."),
    "curve": LazyCommand("orchestrator.cli.curve:curve", "Draw a run's learning curve."),
    "resume": LazyCommand("orchestrator.cli.resume:resume", "Go on with a run, bit for bit."),
}


@click.group(cls=lazy_group(_COMMANDS))
def runs() -> None:
    """List, show and resume runs.

    A RUN is an id, a uid, a name (the newest of that name) or `latest`.
    """
