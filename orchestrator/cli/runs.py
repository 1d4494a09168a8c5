"""`metafleet runs`: find, show, compare, watch, change, clone and delete runs."""

import click

from metafleet.orchestrator.cli.lazy_group import LazyCommand, lazy_group

_COMMANDS = {
    "list": LazyCommand(
        "metafleet.orchestrator.cli.runs_list:list_runs", "Find, sort and group runs."
    ),
    "show": LazyCommand(
        "metafleet.orchestrator.cli.runs_show:show_run", "Show everything about a run."
    ),
    "compare": LazyCommand(
        "metafleet.orchestrator.cli.runs_compare:compare", "Test whether one run is better."
    ),
    "curve": LazyCommand("metafleet.orchestrator.cli.curve:curve", "Draw a run's learning curve."),
    "attach": LazyCommand(
        "metafleet.orchestrator.cli.attach:attach", "Watch a run that another process executes."
    ),
    "log": LazyCommand(
        "metafleet.orchestrator.cli.runs_log:log_of_run", "Show why attempts of a run failed."
    ),
    "cancel": LazyCommand("metafleet.orchestrator.cli.cancel:cancel", "Stop a run on any host."),
    "resume": LazyCommand(
        "metafleet.orchestrator.cli.resume:resume", "Continue a run, with the same bits."
    ),
    "clone": LazyCommand(
        "metafleet.orchestrator.cli.clone:clone", "Run a changed configuration of a run."
    ),
    "tag": LazyCommand("metafleet.orchestrator.cli.annotate:tag", "Tag a run, to find it again."),
    "note": LazyCommand("metafleet.orchestrator.cli.annotate:note", "Write a note about a run."),
    "archive": LazyCommand(
        "metafleet.orchestrator.cli.annotate:archive", "Leave a run out of lists."
    ),
    "export": LazyCommand(
        "metafleet.orchestrator.cli.runs_export:export", "Write records as CSV, JSON or Parquet."
    ),
    "prune": LazyCommand(
        "metafleet.orchestrator.cli.prune:prune_runs", "Delete old checkpoints and job rows."
    ),
    "delete": LazyCommand(
        "metafleet.orchestrator.cli.delete:delete", "Delete runs with their checkpoints."
    ),
}


@click.group(cls=lazy_group(_COMMANDS))
def runs() -> None:
    """Find, show, compare, watch, change, clone and delete runs.

    A RUN is an id, a uid, a name or `latest`. A name stands for the newest run with that name.
    """
