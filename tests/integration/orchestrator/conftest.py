"""A home folder and commands in this process, for tests that need no fleet of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main

_OTHERS = ("BROKER_URL", "BLOBS_URL", "DATABASE_URL", "DATA_DIR", "TRACK")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty METAFLEET_HOME; all other settings have their defaults."""
    for name in _OTHERS:
        monkeypatch.delenv(f"METAFLEET_{name}", raising=False)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process; returns exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        return status, *capsys.readouterr()

    return run
