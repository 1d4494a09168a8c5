"""Runs in JSON lines and Parquet while they are executed: the rows of `runs export`, each once."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.errors import ConfigError
from metafleet.orchestrator.client.exporting import export_runs
from metafleet.orchestrator.client.run import Run
from metafleet.tracking.targets import open_sink
from tests.databases import add_run
from tests.integration.orchestrator.tracking.rows import (
    follower,
    mark,
    record_checkpoint,
    record_evaluation,
    record_steps,
)


def read(path: Path) -> Any:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_rows_are_those_of_an_export(database: Database, tmp_path: Path, kind: str) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 40)
    record_evaluation(database, run, 20)
    killed = follower(database, run, open_sink(f"{kind}:{tmp_path}"))
    killed.send()
    place = tmp_path / f"{run.name}-{run.uid}"
    if kind == "jsonl":
        with (place / "steps.jsonl").open("a") as file:
            file.write('{"run": "half a li')  # what a crash left
    record_steps(database, run, 35, 50)
    record_checkpoint(database, run, 50)
    mark(database, run, RunStatus.FAILED, error="it broke")
    follower(database, run, open_sink(f"{kind}:{tmp_path}")).end()
    follower(database, run, open_sink(f"{kind}:{tmp_path}")).end()

    export_runs([Run(database, Settings.load({}), run)], tmp_path / "export", kind)
    for table in ("steps", "evaluations"):
        assert read(place / f"{table}.{kind}") == read(tmp_path / "export" / f"{table}.{kind}")
    (checkpoint,) = read(place / f"checkpoints.{kind}")
    assert checkpoint["step"] == 50
    state = json.loads((place / "run.json").read_text())
    assert (state["status"], state["error"], state["seed"]) == ("failed", "it broke", 1)
    assert not list(place.glob(".part-*"))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'metafleet\[parquet\]'"):
        open_sink("parquet:logs")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_full_disk_leaves_no_half_written_file(
    database: Database, tmp_path: Path, kind: str
) -> None:
    run = add_run(database)
    record_steps(database, run, 1, 2_000)
    exported = Run(database, Settings.load({}), run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ConfigError, match=r"steps\.\w+ cannot be written \(.*large"):
            export_runs([exported], tmp_path / "export", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert [path.name for path in (tmp_path / "export").iterdir()] == [f"runs.{kind}"]
