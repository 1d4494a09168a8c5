"""Sweeps and their trials: records and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, String, UniqueConstraint

from metafleet.db.records.runs import (
    NAME_LENGTH,
    OWNER_LENGTH,
    STATUS,
    STATUSES,
    RunStatus,
)
from metafleet.db.records.table import table_of
from metafleet.db.types import LongText


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord:
    """A sweep: it tries several configurations, each in a run of its own.

    Attributes:
        id: a number that identifies the sweep.
        name: the sweep's name, which no other sweep has.
        config: the configuration that the trials change, as JSON.
        plan: how the trials change it: the space, the sampler, the pruner and the seed, as JSON.
        n_trials: number of configurations to try.
        parallel: number of trials that servers execute at a time; None if the process that controls
            the sweep executes one trial after another.
        detached: whether a server controls the sweep. If False, another process does.
        status: the status of the sweep. The statuses have the same meanings as those of a run.
        owner: the process that controls the sweep, "host:pid/..."; None if no process does.
        epoch: fencing epoch. Only the process that has this epoch may add trials.
        deaths: how often the controlling process died without an error since the last new trial.
        error: why the sweep failed or was interrupted; None otherwise.
        created_at, finished_at: times of the sweep's start and last end, UTC.
    """

    id: int
    name: Annotated[str, String(NAME_LENGTH)]
    config: Mapping[str, Any]
    plan: Mapping[str, Any]
    n_trials: int
    parallel: int | None
    detached: bool
    status: Annotated[RunStatus, STATUS]
    owner: Annotated[str, String(OWNER_LENGTH)] | None
    epoch: int
    deaths: int
    error: Annotated[str, LongText] | None
    created_at: datetime
    finished_at: datetime | None


SWEEPS = table_of(
    "sweeps",
    SweepRecord,
    UniqueConstraint("name"),
    CheckConstraint(f"status IN ({STATUSES})", name="status"),
    key=("id",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A trial of a sweep: one configuration.

    Attributes:
        sweep_id: the sweep.
        number: number of the trial, from 0.
        assigned: key of the configuration -> value that the trial tries.
        run_id: the trial's run; None if the configuration was refused.
        refused: why the configuration was refused; None if it was not.
        pruned_step: number of outer steps after which a pruner ended the run; None if none did.
    """

    sweep_id: int
    number: int
    assigned: Mapping[str, Any]
    run_id: int | None = None
    refused: Annotated[str, LongText] | None = None
    pruned_step: int | None = None


SWEEP_TRIALS = table_of(
    "sweep_trials",
    TrialRecord,
    ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
    ForeignKeyConstraint(["run_id"], ["runs.id"]),
    UniqueConstraint("run_id"),
    key=("sweep_id", "number"),
)
