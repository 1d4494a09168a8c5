"""Finds the real data that lie beside a development checkout; they are never part of it."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Return a path in the shared data, or skip the test loudly without it; in CI it fails then."""
    root = Path(os.environ.get("METAFLEET_SHARED_DATA") or _BESIDE)
    path = root.joinpath(*parts)
    if not path.exists():
        text = f"no real data at {path}; set METAFLEET_SHARED_DATA"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return path
