"""Servers and databases that tests may ask for; each is private to the test run."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.encoders.fetching import fetching

# as in an activated environment: hints name the command as it can be typed
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

# a shell's background jobs ignore Ctrl-C, and what they start would too: tests send it to children
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.postgres",
    "tests.databases",
    "tests.redis_server",
    "tests.fleet",
    "tests.fault_table",
]

FEW_CODES = [
    *range(0x41, 0x5B),  # Latin
    *range(0x391, 0x3A2),  # Greek, half of it drawn like Latin
    *range(0x410, 0x420),  # Cyrillic
    *range(0x531, 0x541),  # Armenian
]


@pytest.fixture(autouse=True)
def downloads() -> Iterator[None]:
    """Let no test allow downloads to the tests after it, as `metafleet adapt` does in a process."""
    with fetching(False):
        yield


@pytest.fixture
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the glyphs be a few letters, drawn in a moment."""
    candidates = "metafleet.data.sets.glyph_classes.candidates"
    monkeypatch.setattr(candidates, lambda faces, *, min_faces: FEW_CODES)
