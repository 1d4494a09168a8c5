"""What tests of configurations share."""

from pathlib import Path

import pytest

from tests.unit.orchestrator.configurations import GOOD


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD)
    return path
