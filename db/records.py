"""What the database hands upwards and takes: frozen values, never ORM rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class RunStatus(StrEnum):
    """Where a run is in its life."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Claim that nobody works on the run any more (it may still be resumed)."""
        return self not in _OPEN


_OPEN = (RunStatus.CREATED, RunStatus.QUEUED, RunStatus.RUNNING)


def utc_now() -> datetime:
    """Return this instant in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """A named group of runs."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be added.

    Attributes:
        experiment: name of the experiment; made when it is new.
        name: the run's name; several runs may share it.
        seed: 0 <= seed < 2**64.
        n_steps: outer steps in all.
        config: the whole configuration, as JSON.
        code_version, package_versions: what computed it.
        data_digest: hash of the data and its splits.
        fingerprint: numerics fingerprint.
        host: machine of the orchestrator.
        detached: leave it to a server: it begins its life in the queue.
        priority: place in the queue; higher first.
        owner: the process that is going to execute it, by its name; None for servers.
    """

    experiment: str
    name: str
    seed: int
    n_steps: int
    config: Mapping[str, Any]
    code_version: str = ""
    package_versions: Mapping[str, str] = field(default_factory=dict)
    data_digest: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    detached: bool = False
    priority: int = 0
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run as it is in the database.

    Attributes:
        id, uid: number and short text that name the run; the text is unique over databases.
        epoch: fencing epoch; only the orchestrator that holds it may write.
        steps_done: outer steps committed.
        started_at, finished_at: first start and last end, UTC; None before.
        checkpoint_sha256: digest of the newest checkpoint; None before the first.
        error: why the run failed or was interrupted; None otherwise.
        detached: a server executes it, and another takes over when that one dies.
        owner: who executes it, "host:pid/..."; None when nobody does.
        deaths: how often its process died without a word since ``death_step``, the newest
            checkpoint at the time of the last death.
        calibration: what was measured at its first start, and what was chosen by it; None when
            nothing was.

    The other attributes are those of ``NewRun``.
    """

    id: int
    uid: str
    experiment_id: int
    experiment: str
    name: str
    seed: int
    status: RunStatus
    config: Mapping[str, Any]
    code_version: str
    package_versions: Mapping[str, str]
    data_digest: str
    fingerprint: Mapping[str, str]
    host: str
    epoch: int
    steps_done: int
    n_steps: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    checkpoint_sha256: str | None
    error: str | None
    priority: int = 0
    detached: bool = False
    owner: str | None = None
    deaths: int = 0
    death_step: int = 0
    calibration: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A server: a process that takes runs from the queue.

    Attributes:
        name: unique, "host:pid/..."; the ``owner`` of its runs.
        max_runs: how many runs it executes at a time.
        started_at, seen_at: its start and its last sign of life, by the database's clock.
    """

    name: str
    host: str
    pid: int
    max_runs: int
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRun:
    """A run that a server took from the queue.

    Attributes:
        run: as it is now: at a new epoch and owned by the server, or failed, if it was given up.
        predecessor: the dead owner it was taken over from; None when it was queued.
    """

    run: RunRecord
    predecessor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterStepRecord:
    """One committed outer step.

    Attributes:
        step: from 1.
        loss: mean query loss; NaN is kept.
        accuracy: in [0, 1]; None for regression.
        grad_norm: norm of the mean meta-gradient before clipping.
        lr: outer learning rate of this step.
        episodes: episodes that went into the mean.
        workers_alive: workers seen in the last seconds.
        retries: attempts beyond the first, over all shards.
        degraded: True when the step was committed without all its shards.
        attempts: attempts sent; 0 when the step was computed without a fleet.
        backups: of these, sent because another was slow.
        dropped: of these, failed, lost, refused or rejected before the step was done.
        missing_shards: shards it went on without.
        missing_episodes: episodes of these shards.
    """

    step: int
    loss: float
    accuracy: float | None
    grad_norm: float
    lr: float
    episodes: int
    step_s: float
    workers_alive: int = 0
    retries: int = 0
    degraded: bool = False
    attempts: int = 0
    backups: int = 0
    dropped: int = 0
    missing_shards: tuple[int, ...] = ()
    missing_episodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedSteps:
    """How many outer steps of a run went on without all their shards, and episodes of these."""

    steps: int
    missing_episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One shard of one step: the attempt that counted, or the last one that failed.

    Attributes:
        stream: what the job was for, such as "meta_train" or "meta_val"; at most 32 characters.
        step: outer step, from 1.
        shard: index in the step, from 0.
        attempt: from 1.
        outcome: "ok", or the kind of failure.
        queue_wait_s: seconds from dispatch to start; NaN when unknown.
        compute_s: seconds of work; NaN when unknown.
        payload_bytes: size of the result's blob.
    """

    stream: str
    step: int
    shard: int
    attempt: int
    worker: str
    device: str
    outcome: str
    queue_wait_s: float
    compute_s: float
    payload_bytes: int
    episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJobs:
    """What one worker did for a run."""

    worker: str
    device: str
    jobs: int
    episodes: int
    compute_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTotals:
    """What all workers did for a run; ``retried`` jobs took more than one attempt."""

    jobs: int
    retried: int
    episodes: int
    queue_wait_s: float
    compute_s: float
    payload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """Episodes of one split, judged at one step.

    Attributes:
        step: outer step the judged state comes from.
        split: at most 32 characters.
        label: "trained", "initialisation", "nearest_prototype" ...; at most 255 characters.
        episodes: how many, n.
        loss_ci95, accuracy_ci95: half width of the 95 % interval.
        accuracy: in [0, 1]; None for regression.
        batch_norm: batch-norm mode of the judged model.
        is_best: True when this was the best validation until then.
        created_at: UTC; a replay keeps the first time.
    """

    step: int
    split: str
    label: str
    episodes: int
    loss: float
    loss_ci95: float
    accuracy: float | None
    accuracy_ci95: float | None
    batch_norm: str
    is_best: bool = False
    created_at: datetime = field(default_factory=utc_now, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """A checkpoint on disk; ``created_at`` is UTC and a replay keeps the first time."""

    step: int
    path: str
    sha256: str
    size_bytes: int
    created_at: datetime = field(default_factory=utc_now, compare=False)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """How the database's tables compare with what this code needs.

    Attributes:
        revision: the database's revision; None when it has none of our tables.
        head: the revision this code needs.
        is_current: both are the same.
        is_newer: the database was upgraded by a newer version of the code.
        has_tables: the database holds tables, ours or others'.
    """

    revision: str | None
    head: str
    is_current: bool
    is_newer: bool
    has_tables: bool
