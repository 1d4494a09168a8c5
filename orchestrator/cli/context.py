"""What most commands begin with: the settings, the database, the broker."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import click

from metafleet.contracts.connections import Client, connect, redis_errors, require_broker_url
from metafleet.contracts.private_files import private_files, tighten
from metafleet.contracts.settings import Settings
from metafleet.db.connection import is_sqlite, parse_url, sqlite_path
from metafleet.db.engine import Database
from metafleet.db.schema import status
from metafleet.errors import DatabaseError, RunNotFoundError
from metafleet.orchestrator.embedded.stack_file import discard_stale_stack
from metafleet.orchestrator.recording.left_rows import find_left_rows, put_back_lost_runs
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.dead_owners import settle_dead_runs


def load_settings() -> Settings:
    """Read the settings; closes the home to others, and forgets a stack that no longer runs."""
    settings = Settings.load()
    tighten(settings.home)
    discard_stale_stack(settings.stack_file, notify)
    return Settings.load()


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database for one command, and settle what died: see the two calls."""
    with Database.open(settings.database_url) as database:
        put_back_lost_runs(database, settings, notify)
        settle_dead_runs(database)
        yield database


@contextmanager
def open_records(settings: Settings, ref: str) -> Iterator[Database]:
    """Open the database for a command that is about the run ``ref``; makes none.

    Raises:
        RunNotFoundError: nothing was recorded yet.
        DatabaseError: there is no database where the settings say.
    """
    if is_unused(settings):
        raise RunNotFoundError(
            f"no run {ref!r}: there are no runs yet; start one with `metafleet submit`"
        )
    with open_database(settings) as database:
        yield database


def is_unused(settings: Settings) -> bool:
    """Claim that nothing was recorded yet, so that the database under home was not even made.

    Raises:
        DatabaseError: there is no database where METAFLEET_DATABASE_URL says.
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


@contextmanager
def open_broker(settings: Settings) -> Iterator[Client]:
    """Connect to the broker, which has to answer; its errors become ours."""
    url = require_broker_url(settings)
    with redis_errors(url), connect(url) as client:
        client.ping()
        yield client


def require_broker(settings: Settings) -> None:
    """Make sure that the broker answers, before anything is written down."""
    with open_broker(settings):
        return


def private_data(settings: Settings) -> AbstractContextManager[None]:
    """Keep prepared data to this user, where they are in METAFLEET_HOME."""
    is_inside = settings.data_dir.is_relative_to(settings.home)
    return private_files() if is_inside else nullcontext()


def echo_json(value: Any) -> None:
    """Print one JSON value on one line of standard output."""
    click.echo(json.dumps(value, default=str, allow_nan=False))
