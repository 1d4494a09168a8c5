"""The log: what a full disk does to it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.contracts.private_files import tighten
from metafleet.contracts.settings import Settings
from metafleet.orchestrator.cli.logs import log_to

SETTINGS = Settings.load({})


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.raiseExceptions = raises


@pytest.mark.usefixtures("logging_as_before")
def test_a_log_that_cannot_be_written_says_nothing_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orchestrator.log").symlink_to("/dev/full")
    log_to(tmp_path, SETTINGS)

    logging.getLogger("metafleet").info("does not fit")
    log_to(tmp_path, SETTINGS)  # as for the next seed
    logging.getLogger("metafleet").info("does not fit either")

    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("logging_as_before")
def test_a_log_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    log_to(tmp_path / "logs", SETTINGS)
    logging.getLogger("metafleet").info("secret")
    (written,) = (tmp_path / "logs").iterdir()
    written.chmod(0o644)

    tighten(tmp_path)

    assert written.stat().st_mode & 0o077 == 0
