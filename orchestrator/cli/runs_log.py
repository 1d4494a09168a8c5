"""`metafleet runs log`: why attempts of shards did not count, with their log lines."""

import math

import click

from metafleet.db.records import JobRecord, RunRecord
from metafleet.db.repositories.attempts import AttemptFilter
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_records
from metafleet.orchestrator.recording.left_rows import replay_left_rows
from metafleet.orchestrator.records.attempt_view import AttemptView, read_attempts
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify

_INDENT = "    "


@click.command("log")
@click.argument("run", type=RunName())
@click.option("--step", type=click.IntRange(min=0), help="Only this step; 1 is the first.")
@click.option("--shard", type=click.IntRange(min=0), help="Only this shard; 0 is the first.")
@click.option("--stream", help="Only this stream of steps, such as train or validate-meta_val.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=100_000),
    default=20,
    show_default=True,
    help="How many attempts to show, the newest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per attempt.")
def log_of_run(
    run: str, step: int | None, shard: int | None, stream: str | None, limit: int, as_json: bool
) -> None:
    """Show why attempts of RUN failed: outcome, reason and the worker's last log lines.

    An attempt is one try to compute a shard. Without --step, only attempts whose result did not
    count are shown. RUN is an id, a uid, a name or `latest`.

    \b
    metafleet runs log latest --step 7 --shard 3
    """
    settings = load_settings()
    with open_records(settings, run) as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(run)
        replay_left_rows(database, settings, record, notify)
        with database.session(read_only=True) as session:
            of = AttemptFilter(stream=stream, step=step, shard=shard)
            views = read_attempts(session, record, of, limit=limit)
    if as_json:
        for view in views:
            echo_json(view.to_json())
    elif views:
        _show(record, views)
    else:
        click.echo(f"every attempt of run {record.id} ({record.name}) counted so far")


def _show(run: RunRecord, views: tuple[AttemptView, ...]) -> None:
    click.echo(f"run {run.id} ({run.name}), {counted(len(views), 'attempt')}")
    place = None
    for view in views:
        if place != (place := (view.stream, view.step, view.shard)):
            click.secho(f"\n{view.stream} step {view.step}, shard {view.shard}", bold=True)
        click.echo(f"  attempt {view.attempt}{_on(view)}")
        for line in _outcomes(view):
            click.echo(f"{_INDENT}{line}")
        for line in view.log.splitlines():
            click.secho(f"{_INDENT}{line}", dim=True)  # click drops the style in a pipe
    if not any(view.log for view in views):
        click.echo(f"\n{_why_no_lines(views)}")


def _on(view: AttemptView) -> str:
    return f" on {view.worker}" if view.worker else ""


def _outcomes(view: AttemptView) -> list[str]:
    lines = []
    for each in view.outcomes:
        reason = f" ({each.reason.replace('_', ' ')})" if each.reason else ""
        detail = f": {each.detail}" if each.detail else ""
        lines.append(f"{each.outcome}{reason}{_took(each.queue_wait_s, each.compute_s)}{detail}")
    if view.job is not None:
        lines.append(f"counted{_took_of(view.job)}")
    return lines or ["not decided yet"]


def _took_of(job: JobRecord) -> str:
    return _took(job.queue_wait_s, job.compute_s)


def _took(queue_wait_s: float, compute_s: float) -> str:
    if math.isnan(compute_s):
        return ""
    return f" after {queue_wait_s:.3f} s in the queue and {compute_s:.3f} s of computing"


def _why_no_lines(views: tuple[AttemptView, ...]) -> str:
    if all(view.job is not None and not view.outcomes for view in views):
        return "lines of attempts that count are kept only if METAFLEET_ATTEMPT_LOGS=all"
    return "no log lines: the worker logged none, or died before it could send them"
