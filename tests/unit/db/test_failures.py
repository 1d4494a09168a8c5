"""What goes wrong on the way to a database is one line, without the password."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metafleet.db.engine import Database, status, upgrade
from metafleet.errors import DatabaseError, DatabaseUnavailableError
from metafleet.passwords import redact_url
from tests.databases import add_run


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("runs.db", "cannot be read; expected sqlite:///PATH or postgresql://"),
        ("", "database URL '' cannot be read"),
        ("postgresql://u:hush@h:port/d", "cannot be read"),
        ("postgresql://u:hush@[::1/d", "database"),
        ("mysql://u:hush@h/d", "names 'mysql', which is not supported"),
        ("postgres://u:hush@h/d", "names 'postgres', which is not supported"),
        ("postgresql+asyncpg://u:hush@h/d", "names 'postgresql+asyncpg'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "a database in memory is gone"),
        ("postgresql://u:hush@127.0.0.1:1/d", "refused; check that the server runs"),
        ("postgresql://u:hush@nowhere.invalid/d", "check the host's name"),
        ("postgresql://u:hush@127.0.0.1:1/d?colour=red", "colour"),
    ],
)
@pytest.mark.parametrize("call", [Database.open, upgrade, status])
def test_a_useless_url_is_one_line_without_the_password(call: object, url: str, says: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        call(url)  # type: ignore[operator]
    assert says in str(caught.value)
    assert "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("my notes, nothing for a database\n" * 100)
    before = file.read_bytes()

    with pytest.raises(DatabaseError, match=r"file is not a database; point the URL at"):
        Database.open(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="unable to open database file; check that"):
        Database.open(f"sqlite:///{tmp_path}")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder in one that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_read_only_folder_is_named(public_folder: Path) -> None:
    public_folder.chmod(0o555)

    said = as_nobody(lambda: Database.open(f"sqlite:///{public_folder}/x.db"))
    assert "unable to open database file; check that the folder exists and you may" in said


def test_a_folder_that_may_not_be_made_or_entered_is_named(public_folder: Path) -> None:
    public_folder.chmod(0o555)
    said = as_nobody(lambda: Database.open(f"sqlite:///{public_folder}/new/x.db"))
    assert "new cannot be made (Permission denied); choose another in METAFLEET_DATA" in said

    public_folder.chmod(0o000)
    said = as_nobody(lambda: Database.open(f"sqlite:///{public_folder}/new/x.db"))
    assert "(Permission denied); choose another in METAFLEET_DATABASE_URL" in said


def test_a_read_only_file_is_one_line_too(public_folder: Path) -> None:
    url = f"sqlite:///{public_folder}/x.db"
    with Database.open(url) as database:
        add_run(database)
    (public_folder / "x.db").chmod(0o444)
    public_folder.chmod(0o555)

    said = as_nobody(lambda: add_run(Database.open(url)))
    assert "; check " in said and "\n" not in said


def test_a_lock_that_is_not_released_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.db.connection.BUSY_TIMEOUT_S", 0.05)
    with Database.open(f"sqlite:///{tmp_path}/x.db") as database:
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with (
            pytest.raises(DatabaseUnavailableError, match="database is locked; wait"),
            database.session(),
        ):
            pass
        with database.session(read_only=True) as session:  # readers do not wait
            assert session.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0
        other.close()


def as_nobody(call: Callable[[], object]) -> str:
    """Return what ``call`` raises in a process without root's powers."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            call()
            said = "nothing"
        except DatabaseError as error:
            said = str(error)
        except BaseException as error:
            said = f"not a DatabaseError: {error!r}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p@s/s#?@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=p&a=b", "postgresql://h/d?user=u&password=***&a=b"),
        ("postgresql://u:p@[::1/d", "postgresql://u:***@[::1/d"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_a_password_is_hidden_wherever_it_stands(url: str, shown: str) -> None:
    assert redact_url(url) == shown
