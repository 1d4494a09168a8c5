"""The same test over SQLite and PostgreSQL: ask for ``database`` or ``database_url``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from metafleet.db.engine import Database
from metafleet.db.records import METADATA, JobRecord, NewRun, OuterStepRecord, RunRecord
from metafleet.db.repositories import RunRepository


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of the test's own; an SQLite file is not there yet."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/metafleet.db"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database.open(database_url) as database:
        yield database


def new_run(*, name: str = "omniglot-protonet", seed: int = 1, experiment: str = "e1") -> NewRun:
    return NewRun(
        experiment=experiment,
        name=name,
        seed=seed,
        n_steps=1000,
        config={"outer": {"lr": 0.001, "steps": 1000}, "note": "Łódź ✓"},
        code_version="0.1.0+abc",
        package_versions={"torch": "2.13.0"},
        data_digest="d" * 64,
        fingerprint={"threads": "1"},
        host="laptop",
    )


def add_run(database: Database, *, name: str = "omniglot-protonet", seed: int = 1) -> RunRecord:
    with database.session() as session:
        return RunRepository(session).add(new_run(name=name, seed=seed))


def make_step(step: int, *, loss: float | None = None) -> OuterStepRecord:
    return OuterStepRecord(
        step=step,
        loss=1 / step if loss is None else loss,
        accuracy=1 - 0.5 / step,
        grad_norm=0.1 * step,
        lr=1e-3,
        episodes=16,
        step_s=0.25,
        workers_alive=2,
        retries=step % 3,
        degraded=step % 7 == 0,
    )


def make_jobs(step: int, *, n_jobs: int = 4, stream: str = "meta_train") -> list[JobRecord]:
    return [
        JobRecord(
            stream=stream,
            step=step,
            shard=shard,
            attempt=1 + (shard == 3),
            worker=f"w{shard % 2}@host",
            device="cpu",
            outcome="ok",
            queue_wait_s=0.01 * shard,
            compute_s=0.1 + shard,
            payload_bytes=3_000_000_000,
            episodes=4,
            sent_us=1_790_000_000_123_456 + shard,
            round_trip_s=0.2 + 1.02 * shard,
        )
        for shard in range(n_jobs)
    ]


def schema_differences(engine: Engine) -> list[object]:
    """What the migrations of a database made otherwise than the models say."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, METADATA))
