"""Databases of every earlier revision are upgraded, and keep their rows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, Table, func, inspect, select

from metafleet.db.connection import make_engine, parse_url
from metafleet.db.engine import Database, upgrade
from metafleet.db.records import METADATA
from metafleet.db.repositories import RunRepository
from metafleet.db.schema import REVISIONS, alembic_config
from tests.databases import schema_differences

VALUES: Final[dict[type, Any]] = {
    int: 1,
    float: 0.5,
    str: "7",  # seeds are kept as text
    bytes: b"7",
    bool: False,
    object: {},  # JSON
    datetime: datetime(2026, 1, 1, tzinfo=UTC),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres").new_database())
    return f"sqlite:///{tmp_path}/metafleet.db"


def tables(connection: Connection) -> list[Table]:
    """The tables of a database as they are, each after those to which it refers."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name in METADATA.tables]


def fill(connection: Connection, table: Table) -> None:
    """Add a row with a value in each column that needs one."""
    needed = [c for c in table.columns if not c.nullable and c.server_default is None]
    row = {column.name: VALUES[column.type.python_type] for column in needed}
    if table.name == "runs":
        row |= {"id": 1, "uid": "bcdfghjk", "name": "old", "status": "finished"}
    elif "status" in row:
        row |= {"status": "finished"}
    connection.execute(table.insert(), row)


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_rows_of_an_earlier_revision_are_kept(empty_url: str, revision: str) -> None:
    engine = make_engine(parse_url(empty_url))
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), revision)
    with engine.begin() as connection:
        earlier = tables(connection)
        for table in earlier:
            fill(connection, table)
    upgrade(empty_url)

    assert schema_differences(engine) == []
    with engine.begin() as connection:
        assert {table.name for table in tables(connection)} == set(METADATA.tables)
        for table in earlier:
            assert connection.scalar(select(func.count()).select_from(table)) == 1, table.name
    engine.dispose()
    with Database.open(empty_url) as database, database.session(read_only=True) as session:
        assert RunRepository(session).get(1).name == "old"


def test_the_rows_of_a_run_are_found_by_the_primary_key(database_url: str) -> None:
    Database.open(database_url).close()
    found = inspect(make_engine(parse_url(database_url)))
    of_runs = [t.name for t in METADATA.sorted_tables if "run_id" in t.primary_key.columns]

    assert "attempt_logs" in of_runs
    for name in of_runs:
        assert found.get_pk_constraint(name)["constrained_columns"][0] == "run_id", name
