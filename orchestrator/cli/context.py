"""What most commands begin with: the settings, the database, the broker."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from contracts.connections import Client, connect, redis_errors, require_broker_url
from contracts.settings import Settings
from db.engine import Database
from orchestrator.cli.output import notify
from orchestrator.embedded.stack_file import discard_stale_stack


def load_settings() -> Settings:
    """Read the settings; an embedded stack that no longer runs is forgotten first."""
    settings = Settings.load()
    discard_stale_stack(settings.stack_file, notify)
    return Settings.load()


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database for one command."""
    with Database.open(settings.database_url) as database:
        yield database


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


def echo_json(value: Any) -> None:
    """Print one JSON value on one line of standard output."""
    click.echo(json.dumps(value, default=str, allow_nan=False))
