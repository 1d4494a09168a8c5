"""`metafleet runs prune`: delete old checkpoints and job rows."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from metafleet.db.clock import database_now
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_records
from metafleet.orchestrator.records.moments import Age, parse_moments
from metafleet.orchestrator.records.selecting import Selection, select_runs
from metafleet.orchestrator.reporting.figures import byte_count, counted
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.pruning import (
    Freed,
    Policy,
    Prunable,
    find_prunable,
    has_aged,
    prune,
)


class AgeType(click.ParamType[timedelta]):
    """An age such as 30d."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse the age."""
        found = parse_moments(str(value))
        if not isinstance(found, Age):
            self.fail(f"{str(value)!r:.80}; expected an age such as 30d or 12h", param, ctx)
        return found.length


@click.command("prune")
@click.argument("runs", type=RunName(), nargs=-1, metavar="[RUN]...")
@click.option("--where", help="Only runs for which a filter holds, as in `runs list --where`.")
@click.option(
    "--keep-last",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How many of the newest intact checkpoints of each run to keep.",
)
@click.option(
    "--keep-best",
    is_flag=True,
    help="With --keep-last 0, keep the best state of runs that have validations.",
)
@click.option(
    "--older-than", type=AgeType(), metavar="AGE", help="Only runs that ended before, e.g. 30d."
)
@click.option("--job-rows", is_flag=True, help="Also delete the rows of jobs and attempts.")
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def prune_runs(  # noqa: PLR0913 - options of one command
    runs: Sequence[str],
    *,
    where: str | None,
    keep_last: int,
    keep_best: bool,
    older_than: timedelta | None,
    job_rows: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete checkpoints and job rows that are no longer needed. The command asks first.

    Without RUN and --where, all runs that have ended are pruned. Runs that are queued or in
    progress are skipped. By default, the newest checkpoint of each run stays; it contains the last
    state and the state of the best validation.

    \b
    metafleet runs prune --dry-run
    metafleet runs prune --older-than 30d --job-rows --yes
    """
    settings = load_settings()
    policy = Policy(keep_last, keep_best, older_than, job_rows)
    freed = Freed()
    with open_records(settings, runs[0] if runs else "latest") as database:
        chosen = _choose(database, runs, where, policy)
        found = find_prunable(database, settings, chosen, policy)
        if not as_json:
            _show(found, is_named=bool(runs))
        work = [each for each in found if not each.problem]
        if work and not dry_run:
            if not yes:
                _ask(work, policy)
            try:
                prune(database, settings, work, policy, freed=freed, notify=notify)
            finally:  # also after Ctrl-C
                if not as_json:
                    click.echo(f"freed: {_freed(freed)}")
    if as_json:
        echo_json(
            {"would_free" if dry_run else "found": [_document(e) for e in found]}
            | {"freed": asdict(freed)}
        )


def _choose(
    database: Database, names: Sequence[str], where: str | None, policy: Policy
) -> list[RunRecord]:
    filters = [where] if where else []
    with database.session(read_only=True) as session:
        if names:
            chosen = {run.uid: run for run in (RunRepository(session).get(name) for name in names)}
            if where:
                raise ConfigError("both RUN and --where are given; expected one of them")
            runs = list(chosen.values())
        else:
            wanted = Selection.parse(filters, "", limit=None, with_archived=True)
            runs = [entry.run for entry in select_runs(session, wanted)]
        now = database_now(session)
    return [run for run in runs if has_aged(run, policy, now)]


def _show(found: Sequence[Prunable], *, is_named: bool) -> None:
    for each in found:
        if not each.problem:
            click.echo(f"{_name(each.run)}: {_contents(each)}")
        elif is_named or each.run.status.is_final:
            notify(f"{_name(each.run)} is skipped: {each.problem}")
    work = [each for each in found if not each.problem]
    n_open = sum(not each.run.status.is_final for each in found)
    if n_open and not is_named:
        notify(f"{counted(n_open, 'run')} skipped, which are queued or in progress")
    if not work:
        click.echo("nothing to delete")
        return
    total = Freed(
        sum(len(each.files) for each in work),
        sum(each.n_bytes for each in work),
        sum(each.n_rows for each in work),
    )
    click.echo(f"in all: {_freed(total)}")


def _contents(each: Prunable) -> str:
    parts = []
    if each.files:
        parts.append(f"{counted(len(each.files), 'checkpoint')}, {byte_count(each.n_bytes)}")
    if each.n_rows:
        parts.append(counted(each.n_rows, "job row"))
    return "; ".join(parts)


def _freed(freed: Freed) -> str:
    rows = f", {counted(freed.n_rows, 'job row')}" if freed.n_rows else ""
    return f"{byte_count(freed.n_bytes)} in {counted(freed.n_files, 'checkpoint')}{rows}"


def _ask(work: Sequence[Prunable], policy: Policy) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("this would delete files, and there is no terminal to ask; add --yes")
    if policy.keep_last == 0:
        kept = "runs without validations" if policy.keep_best else "these runs"
        notify(f"without a checkpoint, {kept} can no longer be evaluated, used or resumed")
    click.confirm(f"Delete this of {counted(len(work), 'run')}?", abort=True, err=True)


def _name(run: RunRecord) -> str:
    return f"run {run.id} ({run.name}, seed {run.seed})"


def _document(each: Prunable) -> dict[str, Any]:
    return {
        "run": each.run.id,
        "uid": each.run.uid,
        "files": [str(path) for path, _ in each.files],
        "bytes": each.n_bytes,
        "job_rows": each.n_rows,
        "skipped": each.problem or None,
    }
