"""The `metafleet` command in processes of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.orchestrator.cli.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    left = opened.processes()
    for process in left:
        process.kill()
    assert left == []
