"""`metafleet runs attach`: watch a run that another process executes."""

import click

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import FleetError, RunCancelledError
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.cli.execution import show_report
from metafleet.orchestrator.cli.progress import watching
from metafleet.orchestrator.runs.attached import AttachedRun, report_of


@click.command("attach")
@click.argument("run", type=RunName())
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def attach(run: str, as_json: bool) -> None:
    """Watch RUN until it ends; Ctrl-C does not stop the run.

    \b
    metafleet runs attach latest
    """
    with open_records(load_settings(), run) as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(run)
        try:
            ended = _follow(database, record)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"run {record.id} continues: `metafleet runs attach {record.id}`")
            raise
        _refuse_unfinished(ended)
        show_report(ended, report_of(database, ended), as_json=as_json)


def _follow(database: Database, record: RunRecord) -> RunRecord:
    if record.status.is_final:
        return record
    with watching() as observer:
        return AttachedRun(database, record, observer).follow()


def _refuse_unfinished(run: RunRecord) -> None:
    """Raise the error with which the process that executed the run ended."""
    go_on = f"`metafleet runs resume {run.id}` goes on from its last checkpoint"
    if run.status is RunStatus.CANCELLED:
        raise RunCancelledError(f"run {run.id} was cancelled after step {run.steps_done}; {go_on}")
    if run.status is not RunStatus.FINISHED:
        why = f": {run.error}" if run.status is RunStatus.FAILED else f"; {go_on}"
        raise FleetError(f"run {run.id} {run.status} after step {run.steps_done}{why}")
