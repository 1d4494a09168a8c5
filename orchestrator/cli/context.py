"""Opens what most commands need first: the settings and the database."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import click

from metafleet.contracts.private_files import private_files, tighten
from metafleet.contracts.settings import Settings
from metafleet.db.connection import is_sqlite, parse_url, sqlite_path
from metafleet.db.engine import Database
from metafleet.db.schema import status
from metafleet.encoders.fetching import allow_fetching, fetching
from metafleet.errors import DatabaseError, RunNotFoundError
from metafleet.orchestrator.embedded.stack_file import discard_stale_stack
from metafleet.orchestrator.recording.left_rows import find_left_rows, put_back_lost_runs
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.dead_owners import settle_dead_runs


def load_settings() -> Settings:
    """Read the settings; make home private, and drop the file of a stack that no longer runs."""
    settings = Settings.load()
    tighten(settings.home)
    discard_stale_stack(settings.stack_file, notify)
    allow_fetching(settings.fetch_weights == "always")
    return Settings.load()


def preparing_weights(settings: Settings) -> AbstractContextManager[None]:
    """Allow downloads of weights for as long as the block runs, unless the settings forbid them."""
    return fetching(settings.fetch_weights != "never")


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database for one command; restore lost runs and settle those of dead processes."""
    with Database.open(settings.database_url) as database:
        put_back_lost_runs(database, settings, notify)
        settle_dead_runs(database)
        yield database


@contextmanager
def open_records(settings: Settings, ref: str) -> Iterator[Database]:
    """Open the database for a command about the run ``ref``. Never create a database.

    Raises:
        RunNotFoundError: the settings name no database, and the default one in METAFLEET_HOME has
            no runs yet.
        DatabaseError: the settings name a database that does not exist.
    """
    if is_unused(settings):
        raise RunNotFoundError(
            f"no run {ref!r}: there are no runs yet; start one with `metafleet submit`"
        )
    with open_database(settings) as database:
        yield database


def is_unused(settings: Settings) -> bool:
    """Return whether nothing was recorded yet: the database in METAFLEET_HOME does not exist.

    Raises:
        DatabaseError: there is no database at METAFLEET_DATABASE_URL.
    """
    url = parse_url(settings.database_url)
    if not is_sqlite(url) or status(settings.database_url).has_tables or find_left_rows(settings):
        return False
    path = sqlite_path(url)
    if path != settings.home / "metafleet.db":
        raise DatabaseError(
            f"database {path} holds no runs; check METAFLEET_DATABASE_URL, or make it with "
            "`metafleet db upgrade`"
        )
    return True


def private_data(settings: Settings) -> AbstractContextManager[None]:
    """Make prepared data readable by this user alone if they are in METAFLEET_HOME."""
    is_inside = settings.data_dir.is_relative_to(settings.home)
    return private_files() if is_inside else nullcontext()


def echo_json(value: Any) -> None:
    """Print one JSON value on one line of standard output."""
    click.echo(json.dumps(value, default=str, allow_nan=False))
