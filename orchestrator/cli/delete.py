"""`metafleet runs delete`: delete runs with their rows and checkpoints."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import click

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories.run_deletion import delete_run
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.recording.left_rows import replay_left_rows
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.run_lock import run_lock


@click.command("delete")
@click.argument("runs", type=RunName(), nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def delete(runs: Sequence[str], yes: bool) -> None:
    """Delete each RUN with its rows and its checkpoints on this host. The command asks first.

    A RUN that is queued or in progress cannot be deleted. If one RUN cannot be deleted, no RUN is
    deleted.

    \b
    metafleet runs delete 12 13
    """
    settings = load_settings()
    with open_records(settings, runs[0]) as database:
        with database.session(read_only=True) as session:
            found = {run.uid: run for run in (RunRepository(session).get(ref) for ref in runs)}
        chosen = list(found.values())
        if not yes:
            _ask(settings, chosen)
        # written before the locks: a run that is being executed writes its own rows
        for run in chosen:
            replay_left_rows(database, settings, run, notify)
        _delete(database, settings, chosen)
    click.echo(f"deleted: {', '.join(_name(run) for run in chosen)}")


def _ask(settings: Settings, runs: Sequence[RunRecord]) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("this would delete runs, and there is no terminal to ask; add --yes")
    for run in runs:
        click.echo(f"{_name(run)}: {run.status} after {run.steps_done} of {run.n_steps} steps")
    click.confirm(f"Delete these runs, and their checkpoints in {settings.runs_dir}?", abort=True)


def _delete(database: Database, settings: Settings, runs: Sequence[RunRecord]) -> None:
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run_lock(settings, run, is_granted=False))
        with database.session() as session:
            for run in runs:
                delete_run(session, run.uid)
        for run in runs:
            folder = settings.runs_dir / run.uid
            try:
                shutil.rmtree(folder)
            except OSError as error:
                notify(f"the folder {folder} is left over ({error.strerror}); delete it yourself")


def _name(run: RunRecord) -> str:
    return f"run {run.id} ({run.uid}, {run.name}, seed {run.seed})"
