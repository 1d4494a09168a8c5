"""Runs, their experiments and the servers that execute them: records and tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from sqlalchemy import (
    CheckConstraint,
    Enum,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
)

from metafleet.db.records.table import table_of, table_of_run
from metafleet.db.types import Line, LongText, Seed

NAME_LENGTH: Final = 200
UID_LENGTH: Final = 16
TAG_LENGTH: Final = 64
OWNER_LENGTH: Final = 255


class RunStatus(StrEnum):
    """The status of a run."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Return whether the run has ended. It may still be resumed."""
        return self not in _OPEN


_OPEN = (RunStatus.CREATED, RunStatus.QUEUED, RunStatus.RUNNING)
STATUS: Final = Enum(
    RunStatus,
    native_enum=False,
    length=16,
    values_callable=lambda statuses: [status.value for status in statuses],
)
STATUSES: Final = ", ".join(f"'{status.value}'" for status in RunStatus)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """A named group of runs."""

    id: int
    name: Annotated[str, String(NAME_LENGTH)]
    created_at: datetime


EXPERIMENTS = table_of("experiments", ExperimentRecord, UniqueConstraint("name"), key=("id",))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be added.

    If the metadata of a field contain a ``heading``, `metafleet runs show` shows the field under
    this heading.

    Attributes:
        experiment: name of the experiment, which is created if it is new.
        name: the run's name; several runs may have the same name.
        seed: 0 <= seed < 2**64.
        n_steps: total number of outer steps.
        config: the whole configuration, as JSON.
        code_version, package_versions: versions of the code and the packages that compute the run.
        data_digest: hash of the data and its splits.
        user_code: package -> version of the user's packages that the configuration names, as
            ``describe_user_code`` describes it; None if there are none.
        encoders: modality -> identity of the pretrained encoder that computed the modality's
            features. The identity contains the sha256 of the encoder's files. None if there are no
            encoders.
        fingerprint: numerics fingerprint.
        host: machine of the orchestrator.
        detached: whether a server should execute the run. If True, the run starts in the queue.
        priority: priority in the queue. Runs with a higher priority are executed first.
        owner: the process that executes the run, "host:pid/..."; None if no process executes the
            run yet.
        parent_uid: uid of the run whose configuration was changed to make this run; None if there
            is no such run.
    """

    experiment: str
    name: Annotated[str, String(NAME_LENGTH)]
    seed: Annotated[int, Seed]
    n_steps: int
    config: Mapping[str, Any]
    code_version: Annotated[str, Line(100)] = ""
    package_versions: Mapping[str, str] = field(default_factory=dict)
    data_digest: Annotated[str, Line(100)] = field(default="", metadata={"heading": "data"})
    encoders: Mapping[str, Any] | None = None
    user_code: Mapping[str, Any] | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    host: Annotated[str, Line(255)] = field(default="", metadata={"heading": "host"})
    detached: bool = False
    priority: int = 0
    owner: Annotated[str, Line(OWNER_LENGTH)] | None = None
    parent_uid: Annotated[str, String(UID_LENGTH)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(NewRun):
    """A run in the database: its request and its progress.

    Attributes:
        id, uid: a number and a short text that identify the run. The text is unique even across
            databases.
        epoch: fencing epoch. Only the orchestrator that has this epoch may write.
        steps_done: number of committed outer steps.
        started_at, finished_at: times of the run's first start and last end, UTC; None before that.
        checkpoint_sha256: digest of the newest checkpoint; None before the first checkpoint.
        error: why the run failed or was interrupted; None otherwise.
        deaths: how often the run's process died without reporting an error, since the checkpoint of
            step ``death_step``.
        calibration: the measurements at the run's first start, and the choices made from them; None
            if nothing was measured.
        note: text that a person wrote about the run; "" if there is none.
        archived: whether the run is archived. Lists of runs show archived runs only on request.
    """

    id: int
    uid: Annotated[str, String(UID_LENGTH)]
    experiment_id: int
    status: Annotated[RunStatus, STATUS]
    epoch: int = 0
    steps_done: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    checkpoint_sha256: Annotated[str, String(64)] | None = None
    error: Annotated[str, LongText] | None = None
    deaths: int = 0
    death_step: int = 0
    calibration: Mapping[str, Any] | None = None
    note: Annotated[str, LongText] = ""
    archived: bool = False


RUNS = table_of(
    "runs",
    RunRecord,
    ForeignKeyConstraint(["experiment_id"], ["experiments.id"]),
    UniqueConstraint("uid"),
    CheckConstraint(f"status IN ({STATUSES})", name="status"),
    Index(None, "experiment_id", "id"),
    Index(None, "status", "id"),
    Index(None, "name", "id"),
    key=("id",),
    without=("experiment",),  # its name is in the experiments' table
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTag:
    """A tag of a run. A run may have many."""

    tag: Annotated[str, String(TAG_LENGTH)]


RUN_TAGS = table_of_run("run_tags", RunTag, key=("tag",))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A server: a process that takes runs from the queue.

    Attributes:
        name: unique name, "host:pid/...", which is the ``owner`` of the server's runs.
        max_runs: maximum number of runs that the server executes at the same time.
        started_at, seen_at: times of the server's start and last heartbeat, by the database's
            clock.
    """

    name: Annotated[str, String(OWNER_LENGTH)]
    host: Annotated[str, Line(255)]
    pid: int
    max_runs: int
    started_at: datetime
    seen_at: datetime


SERVERS = table_of("servers", ServerRecord, key=("name",))


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRun:
    """A run that a server took from the queue, or from a server that died.

    Attributes:
        run: the run's new record. If the run's processes died too often, the record says that the
            run has failed. Otherwise, the server owns the run at a new epoch.
        predecessor: name of the dead server from which the run was taken over; None if the run was
            taken from the queue.
    """

    run: RunRecord
    predecessor: str | None
