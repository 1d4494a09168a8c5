"""What a PostgreSQL server refuses is one line that says what to do."""

import pytest

from metafleet.db.connection import make_engine, parse_url
from metafleet.db.engine import Database, status, upgrade
from metafleet.errors import DatabaseError
from tests.databases import schema_differences
from tests.postgres import PASSWORD, PostgresServer


def test_migrations_and_models_are_equal_on_postgresql(postgres_url: str) -> None:
    assert schema_differences(make_engine(parse_url(postgres_url))) == []


def test_a_new_database_asks_for_an_upgrade(postgres: PostgresServer) -> None:
    url = postgres.new_database()

    with pytest.raises(DatabaseError, match="has no tables yet; run `metafleet db upgrade`"):
        Database.open(url)
    assert not status(url).has_tables
    assert upgrade(url).is_current
    Database.open(url).close()


def test_the_driver_may_be_named(postgres_url: str) -> None:
    with Database.open(postgres_url.replace("postgresql:", "postgresql+psycopg:")) as database:
        assert database.url.startswith("postgresql") and PASSWORD not in database.url


def test_a_wrong_password_is_said_without_repeating_it(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseError) as caught:
        Database.open(postgres.url(password="wr0ng"))
    assert "password authentication failed" in str(caught.value)
    assert "check user and password" in str(caught.value)
    assert "wr0ng" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_database_and_a_missing_user_are_named(postgres: PostgresServer) -> None:
    with pytest.raises(DatabaseError, match='"nothing" does not exist; make it with createdb'):
        Database.open(postgres.url("nothing"))
    with pytest.raises(DatabaseError, match='failed for user "stranger"; check user'):
        Database.open(postgres.url().replace("//postgres:", "//stranger:"))


def test_a_user_without_rights_is_told_so(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    name = url.rsplit("/", 1)[1]
    postgres.execute(f"CREATE ROLE guest_{name} LOGIN PASSWORD 'guest'")
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    guest = url.replace("//postgres:s3cret-words@", f"//guest_{name}:guest@")

    with pytest.raises(DatabaseError, match=r"permission denied .*; grant the user its rights"):
        upgrade(guest)


def test_a_read_only_session_cannot_write(postgres_url: str) -> None:
    with Database.open(postgres_url) as database:
        with (
            pytest.raises(DatabaseError, match="read-only"),
            database.session(read_only=True) as session,
        ):
            session.exec_driver_sql("DELETE FROM runs")
        with database.session() as session:
            session.exec_driver_sql("DELETE FROM runs")
