"""The migrations make exactly what the models say, and travel inside the package."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from metafleet.db.connection import make_engine, parse_url
from metafleet.db.engine import Database, status, upgrade
from metafleet.db.schema import REVISIONS, alembic_config
from metafleet.errors import DatabaseError
from tests.databases import schema_differences
from tests.paths import REPOSITORY


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a folder/50%/metafleet.db"


def test_every_revision_is_known_and_the_last_is_the_head() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())

    known = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(known)) == REVISIONS
    assert scripts.get_current_head() == REVISIONS[-1]


def test_migrations_and_models_are_equal(url: str) -> None:
    upgrade(url)

    assert schema_differences(make_engine(parse_url(url))) == []


def test_a_downgrade_leaves_nothing(url: str) -> None:
    upgrade(url)
    engine = make_engine(parse_url(url))
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "base")

    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_long_labels_are_shortened_for_an_older_schema_and_kept_apart(url: str) -> None:
    upgrade(url)
    engine = make_engine(parse_url(url), enforce_foreign_keys=False)
    labels = [f"trained, {'k_shot=5, ' * 20}n_query={n}" for n in (1, 2)] + ["trained"]
    row = "(1, 0, 'meta_test', :label, 3, 'none', 0, '2026-03-01')"
    with engine.begin() as connection:
        for label in labels:
            columns = "run_id, step, split, label, episodes, batch_norm, is_best, created_at"
            connection.execute(
                text(f"INSERT INTO evaluations ({columns}) VALUES {row}"), {"label": label}
            )
        command.downgrade(alembic_config(connection), "0004")
        kept = list(connection.scalars(text("SELECT label FROM evaluations")))

    assert len(set(kept)) == 3
    assert max(map(len, kept)) == 64
    assert "trained" in kept


def test_a_missing_database_is_told_from_an_empty_a_current_and_a_newer_one(url: str) -> None:
    assert not status(url).has_tables and not Path(url.removeprefix("sqlite:///")).exists()
    assert upgrade(url).is_current
    assert status(url) == upgrade(url)

    with create_engine(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert status(url).is_newer
    for call in (upgrade, Database.open):
        with pytest.raises(DatabaseError, match=r"revision '9999', newer .* install the version"):
            call(url)


def test_reading_waits_for_no_writer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metafleet.db.connection.BUSY_TIMEOUT_S", 0.05)
    upgrade(url)
    writer = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO experiments (name, created_at) VALUES ('e1', '2026-03-01')")

    assert status(url).is_current
    with Database.open(url) as database, database.session(read_only=True) as session:
        assert session.scalar(text("SELECT count(*) FROM experiments")) == 0
    writer.execute("COMMIT")


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes of files")
def test_a_file_that_may_only_be_read_can_be_read(own_file: Path) -> None:
    url = f"sqlite:///{own_file}"
    upgrade(url)
    own_file.chmod(0o444)

    with without_root(), Database.open(url) as database:
        with database.session(read_only=True) as session:
            assert session.scalar(text("SELECT count(*) FROM experiments")) == 0
        with pytest.raises(DatabaseError, match="check the permissions"), database.session() as s:
            s.execute(text("INSERT INTO experiments (name, created_at) VALUES ('e1', '2026')"))


def test_a_failed_migration_leaves_the_database_as_it_was(url: str) -> None:
    engine = make_engine(parse_url(url))
    Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE evaluations (mine TEXT)"))

    with pytest.raises(DatabaseError, match="table evaluations already exists; use an empty"):
        upgrade(url)
    assert inspect(engine).get_table_names() == ["evaluations"]
    with pytest.raises(DatabaseError, match="holds tables, but not metafleet's"):
        Database.open(url)


def test_an_older_database_is_opened_only_on_request(url: str) -> None:
    upgrade(url)
    with create_engine(url).begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))

    with pytest.raises(DatabaseError, match="not metafleet's"):
        Database.open(url)
    with Database.open(url, require_current=False) as database:
        assert database.status().revision is None


def test_an_installed_package_brings_its_migrations(tmp_path: Path) -> None:
    site = tmp_path / "site"
    copy_as_a_wheel_would(REPOSITORY / "metafleet", site / "metafleet")
    for package in ("db", "contracts"):
        copy_as_a_wheel_would(REPOSITORY / package, site / "metafleet" / package)

    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from metafleet.db import engine\n"
        f"assert engine.__file__.startswith({str(site)!r}), engine.__file__\n"
        f"assert engine.upgrade('sqlite:///{tmp_path}/x.db').is_current\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=60)


@pytest.fixture
def own_file() -> Iterator[Path]:
    """A file in a folder that every user may enter, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="mf-db-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "x.db"


@contextmanager
def without_root() -> Iterator[None]:
    """Give up root's power over files, if it is there."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def copy_as_a_wheel_would(source: Path, target: Path) -> None:
    """Copy the modules of packages, and nothing else: no data files, no plain folders."""
    for module in source.rglob("*.py"):
        if (module.parent / "__init__.py").exists():
            copy = target / module.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(module, copy)
