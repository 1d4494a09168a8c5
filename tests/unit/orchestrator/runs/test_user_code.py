"""The versions of a user's packages: the commit, and changes that it lacks."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.orchestrator.runs.user_code import (
    describe_changes,
    describe_user_code,
    shown_version,
)
from metafleet.sources import disk_digest

CONFIG = {
    "name": "lab_of_ours.learning:NotAClassButAName",
    "data": {"parts": [{"encoder": "other_lab:Encoder"}, {"encoder": "hf:a/b"}]},
    "learner": {"name": "maml"},
}
PACKAGES = ("lab_of_ours", "other_lab")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with a package, on the import path."""
    folder = tmp_path / "work"
    package = folder / "src" / "lab_of_ours"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "learning.py").write_text("RATE = 1\n")
    (folder / "other_lab.py").write_text("SIZE = 2\n")
    (folder / "elsewhere.txt").write_text("notes")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    for place in (folder / "src", folder):
        monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr("metafleet.sources._imported", {})
    yield folder


def git(folder: Path, *arguments: str) -> str:
    names = {
        f"GIT_{who}_{what}": "lab@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=os.environ | names,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_repository_of_a_git_hook_is_not_that_of_the_package(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "other")
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))

    assert describe_user_code(CONFIG, PACKAGES)["lab_of_ours"]["commit"] == commit


def test_the_commit_of_each_allowed_package_is_found(repository: Path) -> None:
    found = describe_user_code(CONFIG, PACKAGES)

    commit = git(repository, "rev-parse", "HEAD")
    assert found == {
        name: {
            "digest": disk_digest(name),
            "release": "",
            "commit": commit,
            "is_dirty": False,
        }
        for name in PACKAGES
    }
    assert describe_user_code(CONFIG, ("other_lab",)).keys() == {"other_lab"}
    assert describe_user_code({"learner": {"name": "maml"}}, PACKAGES) == {}


@pytest.mark.parametrize(
    ("path", "is_dirty"),
    [
        ("src/lab_of_ours/learning.py", True),
        ("src/lab_of_ours/added.py", True),
        ("src/lab_of_ours/__pycache__/learning.cpython-311.pyc", False),
        ("elsewhere.txt", False),
    ],
    ids=["changed", "added", "byte code", "outside"],
)
def test_changes_of_the_package_alone_make_it_dirty(
    repository: Path, path: str, is_dirty: bool
) -> None:
    (repository / path).parent.mkdir(exist_ok=True)
    (repository / path).write_text("changed")

    found = describe_user_code(CONFIG, PACKAGES)

    assert found["lab_of_ours"]["is_dirty"] is is_dirty
    assert found["other_lab"]["is_dirty"] is False


def test_an_ignored_package_has_no_commit(repository: Path) -> None:
    (repository / ".gitignore").write_text("env/\n")
    package = repository / "env" / "ignored_lab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package.parent))
        found = describe_user_code({"model": {"name": "ignored_lab:Net"}}, ["ignored_lab"])

    assert (found["ignored_lab"]["commit"], found["ignored_lab"]["is_dirty"]) == ("", False)


def test_a_package_outside_of_repositories_has_a_digest(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))  # no git either

    found = describe_user_code(CONFIG, PACKAGES)["other_lab"]

    assert found["commit"] == "" and len(found["digest"]) == 16
    assert shown_version(found) == f"sources {found['digest'][:8]}"


def test_a_difference_is_said_in_a_line() -> None:
    was = {"digest": "0123456789abcdef", "release": "0.2", "commit": "a" * 40, "is_dirty": False}
    now = was | {"commit": "b" * 40, "is_dirty": True}

    assert describe_changes({"lab": was}, {"lab": was}) == []
    assert describe_changes(None, {"lab": now}) == []
    assert describe_changes({"lab": was}, {"lab": now}) == [
        "package 'lab' was 0.2, commit aaaaaaaaaaaa, sources 01234567 when the run was created, "
        "and is 0.2, commit bbbbbbbbbbbb with changes, sources 01234567 now"
    ]
