"""A run whose rows are recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.orchestrator.recording.recorder import Recorder
from tests.databases import add_run
from tests.integration.orchestrator.recording.rows import QUICK


@pytest.fixture
def run(database: Database) -> RunRecord:
    return add_run(database)


@pytest.fixture
def spill_path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "1" / "rows.jsonl"


@pytest.fixture
def recorder(database: Database, run: RunRecord, spill_path: Path) -> Iterator[Recorder]:
    with Recorder(database, run, epoch=0, spill_path=spill_path, limits=QUICK) as recorder:
        yield recorder
