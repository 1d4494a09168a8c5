"""`metafleet runs resume`: continue a run where it stopped."""

import click

from metafleet.db.records import RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.broker import require_fleet
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.cli.execution import execute_watched, show_report
from metafleet.orchestrator.recording.left_rows import replay_left_rows
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.attached import report_of
from metafleet.orchestrator.runs.run_session import ExecutionOptions
from metafleet.tracking.targets import check_targets


@click.command("resume")
@click.argument("run", type=RunName())
@click.option(
    "--in-process", is_flag=True, help="Compute in this process, without Redis and workers."
)
@click.option(
    "--relaxed",
    is_flag=True,
    help="Continue even if versions or the CPU change the bits of the result.",
)
@click.option(
    "--from-start",
    is_flag=True,
    help="Begin again at step 0, with the same bits; renames checkpoints to set-aside-*.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def resume(run: str, *, in_process: bool, relaxed: bool, from_start: bool, as_json: bool) -> None:
    """Continue RUN from its last checkpoint. The result is the same as without the stop.

    \b
    metafleet runs resume latest
    """
    settings = load_settings()
    with open_records(settings, run) as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(run)
        replay_left_rows(database, settings, record, notify)
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(record.uid)
        if record.status is RunStatus.FINISHED and not from_start:
            notify(f"run {record.id} is finished; nothing to resume")
            if as_json:
                show_report(record, report_of(database, record), as_json=True)
            return
        check_targets(settings.track)
        if not in_process:
            require_fleet(settings)
        report = execute_watched(
            database,
            settings,
            record,
            options=ExecutionOptions(in_process, relaxed=relaxed, from_start=from_start),
        )
    show_report(record, report, as_json=as_json)
