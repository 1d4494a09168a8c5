"""The mapped tables. Nothing above ``db`` sees these classes: repositories hand out records."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from metafleet.db.records import RunStatus
from metafleet.db.types import Indices, Line, LongText, Real, Seed, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
SPLIT_LENGTH = 32
LABEL_LENGTH = 255
NAME_LENGTH = 200
OWNER_LENGTH = 255
OUTCOME_LENGTH = 16
REASON_LENGTH = 32
_STATUSES = ", ".join(f"'{status.value}'" for status in RunStatus)


class Base(DeclarativeBase):
    """The root of the mapped classes; constraints get the same names on every database."""

    metadata = MetaData(naming_convention=NAMING)


class Experiment(Base):
    """What several runs have in common: one configuration's name."""

    __tablename__ = "experiments"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Run(Base):
    """One training execution, with all that is needed to repeat it."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index(None, "experiment_id", "id"),
        Index(None, "status", "id"),
        Index(None, "name", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"))
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    seed: Mapped[int] = mapped_column(Seed)
    status: Mapped[str] = mapped_column(String(16))
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    code_version: Mapped[str] = mapped_column(Line(100))
    package_versions: Mapped[dict[str, str]] = mapped_column(JSON)
    data_digest: Mapped[str] = mapped_column(Line(100))
    fingerprint: Mapped[dict[str, str]] = mapped_column(JSON)
    host: Mapped[str] = mapped_column(Line(255))
    epoch: Mapped[int] = mapped_column(default=0)
    steps_done: Mapped[int] = mapped_column(default=0)
    n_steps: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    checkpoint_sha256: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(LongText)
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    detached: Mapped[bool] = mapped_column(default=False, server_default=false())
    owner: Mapped[str | None] = mapped_column(Line(OWNER_LENGTH))
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    death_step: Mapped[int] = mapped_column(default=0, server_default="0")
    calibration: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Server(Base):
    """A process that takes runs from the queue, and when it was last heard of."""

    __tablename__ = "servers"

    name: Mapped[str] = mapped_column(String(OWNER_LENGTH), primary_key=True)
    host: Mapped[str] = mapped_column(Line(255))
    pid: Mapped[int]
    max_runs: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OuterStep(Base):
    """One committed outer step."""

    __tablename__ = "outer_steps"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float | None] = mapped_column(Real)
    accuracy: Mapped[float | None] = mapped_column(Double)
    grad_norm: Mapped[float | None] = mapped_column(Real)
    lr: Mapped[float] = mapped_column(Double)
    episodes: Mapped[int]
    step_s: Mapped[float] = mapped_column(Double)
    workers_alive: Mapped[int]
    retries: Mapped[int]
    degraded: Mapped[bool]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    backups: Mapped[int] = mapped_column(default=0, server_default="0")
    dropped: Mapped[int] = mapped_column(default=0, server_default="0")
    missing_shards: Mapped[tuple[int, ...]] = mapped_column(Indices, server_default="[]")
    missing_episodes: Mapped[int] = mapped_column(default=0, server_default="0")


class Job(Base):
    """Who computed one shard of one step, and what it cost."""

    __tablename__ = "jobs"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    stream: Mapped[str] = mapped_column(String(SPLIT_LENGTH), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    worker: Mapped[str] = mapped_column(Line(255))
    device: Mapped[str] = mapped_column(Line(100))
    outcome: Mapped[str] = mapped_column(Line(100))
    queue_wait_s: Mapped[float | None] = mapped_column(Real)
    compute_s: Mapped[float | None] = mapped_column(Real)
    payload_bytes: Mapped[int] = mapped_column(BigInteger)
    episodes: Mapped[int]


class Attempt(Base):
    """An attempt of a shard that did not count, and why; a sample where there are very many."""

    __tablename__ = "attempts"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    stream: Mapped[str] = mapped_column(String(SPLIT_LENGTH), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(String(OUTCOME_LENGTH), primary_key=True)
    reason: Mapped[str] = mapped_column(Line(REASON_LENGTH))
    worker: Mapped[str] = mapped_column(Line(255))
    detail: Mapped[str] = mapped_column(Line(500))
    queue_wait_s: Mapped[float | None] = mapped_column(Real)
    compute_s: Mapped[float | None] = mapped_column(Real)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AttemptCount(Base):
    """How many attempts of a stream of steps met with an outcome, under one epoch of the run."""

    __tablename__ = "attempt_counts"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(String(SPLIT_LENGTH), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(OUTCOME_LENGTH), primary_key=True)
    reason: Mapped[str] = mapped_column(String(REASON_LENGTH), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)


class Evaluation(Base):
    """Episodes of one split, judged at one step."""

    __tablename__ = "evaluations"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(String(SPLIT_LENGTH), primary_key=True)
    label: Mapped[str] = mapped_column(String(LABEL_LENGTH), primary_key=True)
    episodes: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float | None] = mapped_column(Real)
    loss_ci95: Mapped[float | None] = mapped_column(Real)
    accuracy: Mapped[float | None] = mapped_column(Double)
    accuracy_ci95: Mapped[float | None] = mapped_column(Double)
    batch_norm: Mapped[str] = mapped_column(Line(32))
    is_best: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Checkpoint(Base):
    """A checkpoint on disk. Rows outlive their files; the newest is the one to resume from."""

    __tablename__ = "checkpoints"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(LongText)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
