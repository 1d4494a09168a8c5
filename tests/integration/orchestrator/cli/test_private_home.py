"""A home is private to its user under any umask; elsewhere the umask decides."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.orchestrator.cli.terminal import Terminal


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[Path]:
    return [path for path in [folder, *folder.rglob("*")] if path.lstat().st_mode & 0o077]


def test_a_run_and_prepared_data_are_private_and_an_export_is_not(terminal: Terminal) -> None:
    for label in "abcdef":
        (terminal.folder / "letters" / label).mkdir(parents=True)
        for number in range(12):
            (terminal.folder / "letters" / label / f"{number}.txt").write_text(f"{label} {number}")
    imported = terminal.run("data", "import", str(terminal.folder / "letters"))
    assert imported.returncode == 0, imported.stderr
    terminal.run("submit", str(terminal.tiny), "--in-process")
    terminal.home.chmod(0o755)  # as an earlier version left it
    (terminal.home / "runs").chmod(0o755)
    terminal.run("runs", "list")

    assert list(terminal.home.rglob("*.safetensors"))
    assert list((terminal.home / "data").rglob("*.npy"))
    assert open_to_others(terminal.home) == []

    exported = terminal.folder / "exported"
    assert terminal.run("export", "latest", "--out", str(exported)).returncode == 0
    assert stat.S_IMODE(exported.stat().st_mode) & 0o044
