"""Finds the real data next to a development checkout; they are never part of it."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Return a path in the shared data.

    Without it the test is skipped, or fails when ``CI`` is set. ``METAFLEET_SHARED_DATA=none`` says
    that this machine has none: the test is skipped in CI too.
    """
    setting = os.environ.get("METAFLEET_SHARED_DATA")
    root = Path(setting or _BESIDE)
    path = root.joinpath(*parts)
    if not path.exists():
        text = f"no real data at {path}; set METAFLEET_SHARED_DATA"
        if os.environ.get("CI") and setting != "none":
            pytest.fail(text)
        pytest.skip(text)
    return path
