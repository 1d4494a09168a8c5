"""`metafleet runs tag`, `runs note` and `runs archive`: what people write about runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories.run_notes import RunNotes
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import load_settings, open_records


@contextmanager
def _opened(ref: str) -> Iterator[tuple[RunNotes, RunRecord]]:
    """Find a run, and commit what the block writes about it."""
    with open_records(load_settings(), ref) as database, database.session() as session:
        yield RunNotes(session), RunRepository(session).get(ref)


@click.command("tag")
@click.argument("run", type=RunName())
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--remove", is_flag=True, help="Remove the tags.")
def tag(run: str, tags: Sequence[str], remove: bool) -> None:
    """Add each TAG, a word, to RUN. `runs list --where tags=TAG` then finds RUN.

    \b
    metafleet runs tag latest paper baseline
    metafleet runs tag 12 paper --remove
    """
    with _opened(run) as (notes, record):
        change = notes.remove_tags if remove else notes.add_tags
        change(record.id, tags)
        left = notes.tags([record.id]).get(record.id, ())
    click.echo(f"tags of run {record.id}: {' '.join(left) or 'none'}")


@click.command("note")
@click.argument("run", type=RunName())
@click.argument("text")
def note(run: str, text: str) -> None:
    """Replace the note of RUN by TEXT; an empty TEXT removes it.

    \b
    metafleet runs note latest 'diverged after the warm-up'
    """
    with _opened(run) as (notes, record):
        notes.set_note(record.id, text)
    click.echo(f"note of run {record.id}: {text}" if text else f"run {record.id} has no note")


@click.command("archive")
@click.argument("run", type=RunName())
@click.option("--undo", is_flag=True, help="List the run again.")
def archive(run: str, undo: bool) -> None:
    """Archive RUN. `runs list` then lists RUN only with --archived. Nothing is deleted.

    A running run is refused.

    \b
    metafleet runs archive 12
    """
    with _opened(run) as (notes, record):
        if record.status is RunStatus.RUNNING and not undo:
            raise ConfigError(
                f"run {record.id} is running; expected a run that has ended: wait, or stop it with "
                f"`metafleet runs cancel {record.id}`"
            )
        notes.set_archived(record.id, not undo)
    click.echo(f"run {record.id} is {'listed again' if undo else 'archived'}")
