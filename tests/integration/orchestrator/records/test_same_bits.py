from dataclasses import replace
from typing import Any

from metafleet.db.engine import Database
from metafleet.db.records import CheckpointRecord, RunRecord
from metafleet.db.repositories import RunRepository
from metafleet.db.repositories.checkpoints import CheckpointRepository
from metafleet.orchestrator.records.same_bits import Twin, find_twins
from tests.databases import new_run


def add(database: Database, digests: dict[int, str], **changes: Any) -> RunRecord:
    """Add a run with checkpoints: step -> a letter that stands for the digest."""
    with database.session() as session:
        run = RunRepository(session).add(replace(new_run(), **changes))
        rows = [
            CheckpointRecord(step=step, path="x", sha256=64 * letter, size_bytes=1)
            for step, letter in digests.items()
        ]
        CheckpointRepository(session).upsert_many(run.id, rows)
        return run


def twins(database: Database, run: RunRecord) -> list[Twin]:
    with database.session(read_only=True) as session:
        return find_twins(session, run)


def test_checkpoints_are_compared_at_equal_steps(database: Database) -> None:
    run = add(database, {10: "a", 20: "b", 30: "c"})
    equal = add(database, {20: "b", 25: "x", 30: "c"}, name="another name")
    differing = add(database, {10: "a", 20: "y", 30: "z"})
    ahead = add(database, {40: "d"})

    found = twins(database, run)

    assert [(one.run.id, one.equal_at, one.differs_at) for one in found] == [
        (ahead.id, None, None),
        (differing.id, 10, 20),
        (equal.id, 30, None),
    ]


def test_runs_that_compute_something_else_are_no_twins(database: Database) -> None:
    run = add(database, {10: "a"})
    for change in (
        {"seed": 2},
        {"data_digest": "e" * 64},
        {"code_version": "0.1.0+def"},
        {"fingerprint": {"threads": "2"}},
        {"config": {"outer": {"lr": 0.002, "steps": 1000}}},
        {"user_code": {"lab": "1"}},
        {"encoders": {"image": {"sha256": "0"}}},
        {"experiment": "e2"},
    ):
        add(database, {10: "b"}, **change)

    assert twins(database, run) == []
