"""What is in a home is its user's, whatever the umask was and whatever was let in before."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.contracts.private_files import private_files, tighten
from metafleet.contracts.settings import make_folder
from metafleet.db.engine import Database


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


OURS = (
    "runs/k7w2m9xb/step-1.safetensors",
    "metafleet.db",
    "metafleet.db-wal",
    "logs/redis.log",
    "metafleet.db.put-back.lock",
    "logs/demo/worker-cpu1.log",
    "heartbeats/cpu1@host-17",
    "data/prepared/own-0123456789abcdef/index.json",
)


def fill(home: Path) -> None:
    for name in OURS:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_home_that_was_open_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    fill(home)

    tighten(home)

    assert mode(home) == 0o700
    for path in home.rglob("*"):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_what_is_not_ours_is_left_alone_and_so_is_the_folder_that_holds_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    fill(home)
    (home / "thesis.tex").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (home / "runs" / "link").symlink_to(elsewhere)

    tighten(home)

    assert (mode(home), mode(home / "thesis.tex"), mode(elsewhere)) == (0o777, 0o666, 0o666)
    assert mode(home / "metafleet.db") == 0o600


def test_the_folder_of_a_project_keeps_its_own_files_as_they_are(tmp_path: Path) -> None:
    names = ("data/survey.csv", "data/prepared/a.csv", "runs/sweep/out.txt", "logs/app.log")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for _ in range(2):
        tighten(tmp_path)
        fill(tmp_path)  # there is a database from now on
    tighten(tmp_path)

    for name in names:
        path = tmp_path / name
        assert (mode(path), mode(path.parent)) == (0o666, 0o777), name
    assert [mode(tmp_path / name) for name in OURS] == [0o600] * len(OURS)


def test_a_home_that_is_not_there_or_belongs_to_another_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tighten(tmp_path / "nowhere")
    fill(tmp_path / "home")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not the owner")

    monkeypatch.setattr(Path, "chmod", refuse)
    tighten(tmp_path / "home")


def test_a_database_and_the_files_of_its_log_are_private_from_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Database.open(f"sqlite:///{home}/metafleet.db") as database, database.session():
        found = {path.name: mode(path) for path in home.iterdir()}

    assert mode(home) == 0o700
    assert set(found) >= {"metafleet.db", "metafleet.db-wal", "metafleet.db-shm"}
    assert set(found.values()) == {0o600}


def test_folders_are_private_and_the_umask_is_given_back(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", "the folder")
    with private_files():
        (tmp_path / "private").touch()
    (tmp_path / "public").touch()

    assert [mode(tmp_path / name) for name in ("a", "a/b")] == [0o700, 0o700]
    assert [mode(tmp_path / name) for name in ("private", "public")] == [0o600, 0o666]
