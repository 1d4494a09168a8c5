"""The rows of a run: outer steps, jobs, evaluations and checkpoints; records and tables."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

from sqlalchemy import BigInteger, String

from metafleet.db.records.runs import utc_now
from metafleet.db.records.table import table_of_run
from metafleet.db.types import Indices, Line, LongText, Real, Reals

SPLIT_LENGTH: Final = 32
LABEL_LENGTH: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterStepRecord:
    """One committed outer step.

    Attributes:
        step: number of the step, from 1.
        loss: mean query loss. NaN is stored as NaN.
        accuracy: mean query accuracy, or mean average precision if items have several labels, in
            [0, 1]; None for regression.
        grad_norm: norm of the mean meta-gradient before clipping.
        lr: outer learning rate of this step.
        episodes: number of episodes in the mean.
        workers_alive: number of workers that sent a heartbeat in the last seconds.
        retries: number of attempts other than the first attempt of each shard.
        degraded: whether the step was committed although shards were missing.
        attempts: number of attempts sent; 0 if the step was computed without a fleet.
        backups: number of attempts sent because another attempt was slow.
        dropped: number of attempts that failed, or that were lost, refused or rejected, before the
            step was done.
        missing_shards: shards that are not in the step's sum.
        missing_episodes: number of episodes in these shards.
    """

    step: int
    loss: Annotated[float, Real]
    accuracy: float | None
    grad_norm: Annotated[float, Real]
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


OUTER_STEPS = table_of_run("outer_steps", OuterStepRecord, key=("step",))


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedSteps:
    """How many outer steps of a run lack shards, and how many episodes these shards had."""

    steps: int
    missing_episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """The attempt at a shard whose result was used; if there is none, the last failed attempt.

    Attributes:
        stream: the stream of steps, for example "meta_train" or "meta_val"; at most 32
            characters.
        step: number of the outer step, from 1.
        shard: index of the shard in the step, from 0.
        attempt: number of the attempt, from 1.
        outcome: "ok", or the kind of failure.
        queue_wait_s: seconds from dispatch to start; NaN if unknown.
        compute_s: seconds of computing; NaN if unknown.
        payload_bytes: size of the result's blob.
        sent_us: when the attempt was sent, in microseconds since 1970; None if unknown. The clock
            is that of the Redis server, which also measures ``queue_wait_s``, so wrong clocks of
            workers have no effect. Without a fleet, the clock is that of the orchestrator.
        round_trip_s: seconds from sending until the result was added to the step's sum; NaN if
            unknown.
    """

    stream: Annotated[str, String(SPLIT_LENGTH)]
    step: int
    shard: int
    attempt: int
    worker: Annotated[str, Line(255)]
    device: Annotated[str, Line(100)]
    outcome: Annotated[str, Line(100)]
    queue_wait_s: Annotated[float, Real]
    compute_s: Annotated[float, Real]
    payload_bytes: Annotated[int, BigInteger]
    episodes: int
    sent_us: Annotated[int, BigInteger] | None = None
    round_trip_s: Annotated[float, Real] = math.nan


JOBS = table_of_run("jobs", JobRecord, key=("stream", "step", "shard"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJobs:
    """The jobs that one worker did for a run."""

    worker: str
    device: str
    jobs: int
    episodes: int
    compute_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTotals:
    """The totals of all workers for a run. ``retried`` counts jobs with several attempts."""

    jobs: int
    retried: int
    episodes: int
    queue_wait_s: float
    compute_s: float
    payload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """An evaluation of the state after one step, on episodes of one split.

    Attributes:
        step: the outer step after which the state was evaluated.
        split: name of the split, at most 32 characters.
        label: "trained", "initialisation", "nearest_prototype" ...; at most 255 characters.
        episodes: number of episodes.
        loss_ci95, accuracy_ci95: half widths of the 95 % confidence intervals of the mean loss and
            accuracy.
        accuracy: mean accuracy in [0, 1]; None for regression.
        batch_norm: batch-norm mode of the evaluated model.
        is_best: whether this was the best evaluation on the validation split so far.
        created_at: time of the record, UTC. If the record is written again, the first time is kept.
    """

    step: int
    split: Annotated[str, String(SPLIT_LENGTH)]
    label: Annotated[str, String(LABEL_LENGTH)]
    episodes: int
    loss: Annotated[float, Real]
    loss_ci95: Annotated[float, Real]
    accuracy: float | None
    accuracy_ci95: float | None
    batch_norm: Annotated[str, Line(32)]
    is_best: bool = False
    created_at: datetime = field(default_factory=utc_now, compare=False)


EVALUATIONS = table_of_run(
    "evaluations", EvaluationRecord, key=("step", "split", "label", "episodes")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResultsRecord:
    """The results of each episode of an evaluation, in the order of the episodes.

    Attributes:
        step, split, label, episodes: name the evaluation, as in ``EvaluationRecord``.
        losses: the loss of each episode.
        accuracies: the accuracy of each episode in [0, 1]; None for regression.
    """

    step: int
    split: Annotated[str, String(SPLIT_LENGTH)]
    label: Annotated[str, String(LABEL_LENGTH)]
    episodes: int
    losses: Annotated[tuple[float, ...], Reals]
    accuracies: Annotated[tuple[float, ...], Reals] | None


EPISODE_RESULTS = table_of_run(
    "episode_results", EpisodeResultsRecord, key=("step", "split", "label", "episodes")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerCurveRecord:
    """The mean results of an evaluation after each inner step.

    Each tuple has N + 1 numbers for N inner steps. The first number is the mean before the first
    inner step.

    Attributes:
        step, split, label: as in ``EvaluationRecord``.
        episodes: number of episodes, which may be fewer than those of the evaluation.
        support_losses, support_accuracies: means on the support sets, to which the learner adapts.
        query_losses, query_accuracies: means on the query sets.
        query_losses_ci95, query_accuracies_ci95: half widths of the 95 % confidence intervals of
            the means on the query sets. Accuracies are in [0, 1], and None for regression.
    """

    step: int
    split: Annotated[str, String(SPLIT_LENGTH)]
    label: Annotated[str, String(LABEL_LENGTH)]
    episodes: int
    support_losses: Annotated[tuple[float, ...], Reals]
    support_accuracies: Annotated[tuple[float, ...], Reals] | None
    query_losses: Annotated[tuple[float, ...], Reals]
    query_losses_ci95: Annotated[tuple[float, ...], Reals]
    query_accuracies: Annotated[tuple[float, ...], Reals] | None
    query_accuracies_ci95: Annotated[tuple[float, ...], Reals] | None


INNER_CURVES = table_of_run(
    "inner_curves", InnerCurveRecord, key=("step", "split", "label", "episodes")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerRatesRecord:
    """The learned step sizes of the inner steps, after one outer step.

    Attributes:
        step: the outer step.
        layers: names of the parameters with learned step sizes.
        rates: for each parameter in turn, the mean step size of each inner step. All parameters
            have the same number of inner steps.
    """

    step: int
    layers: Annotated[tuple[str, ...], Indices]
    rates: Annotated[tuple[float, ...], Reals]

    def by_layer(self) -> dict[str, tuple[float, ...]]:
        """Return parameter -> step size of each inner step."""
        n = len(self.rates) // max(len(self.layers), 1)
        return {
            layer: self.rates[index * n : (index + 1) * n]
            for index, layer in enumerate(self.layers)
        }


INNER_RATES = table_of_run("inner_rates", InnerRatesRecord, key=("step",))


@dataclass(frozen=True, slots=True)
class SplitResults:
    """The best and the last evaluation of a run on a split; they may be the same."""

    run_id: int
    split: str
    best: EvaluationRecord
    last: EvaluationRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """A checkpoint on disk. ``created_at`` is in UTC, and a replay keeps the first time."""

    step: int
    path: Annotated[str, LongText]
    sha256: Annotated[str, String(64)]
    size_bytes: Annotated[int, BigInteger]
    created_at: datetime = field(default_factory=utc_now, compare=False)


CHECKPOINTS = table_of_run("checkpoints", CheckpointRecord, key=("step",))
