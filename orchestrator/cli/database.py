"""`metafleet db`: check and upgrade the database's tables."""

from dataclasses import asdict

import click

from metafleet.db.schema import SchemaStatus, status, upgrade
from metafleet.orchestrator.cli.context import echo_json, load_settings
from metafleet.passwords import redact_url


@click.group("db")
def database() -> None:
    """Check and upgrade the database."""


@database.command("upgrade")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def upgrade_database(as_json: bool) -> None:
    """Upgrade the tables to this version, unless the tables are up to date already.

    \b
    metafleet db upgrade
    """
    url = load_settings().database_url
    _show(url, upgrade(url), as_json=as_json)


@database.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show_status(as_json: bool) -> None:
    """Show the revision of the tables, and the revision that this version needs.

    \b
    metafleet db status --json
    """
    url = load_settings().database_url
    _show(url, status(url), as_json=as_json)


def _show(url: str, found: SchemaStatus, *, as_json: bool) -> None:
    if as_json:
        echo_json({"url": redact_url(url)} | asdict(found))
        return
    click.echo(
        f"{redact_url(url)}: revision {found.revision or 'none'}, this version needs {found.head}"
        f" ({_judgement(found)})"
    )


def _judgement(found: SchemaStatus) -> str:
    if found.is_current:
        return "up to date"
    if found.is_newer:
        return "newer; install the version that upgraded it"
    return "run `metafleet db upgrade`" if found.has_tables else "empty; made on first use"
