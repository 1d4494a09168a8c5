"""A step: its request, its shards, its outcome, and the dispatcher that computes it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NewType, Protocol

from metafleet.contracts.job import Kind
from metafleet.contracts.plan import EncodingPlan
from metafleet.encoders.base import Array
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import MetaState, Params
from metafleet.workload import WorkloadSpec

NO_STATE: Final = MetaState({}, {})
MEASURED_ONLY: Final = ("evaluate", "inner_curve")
"""Kinds of steps that return metrics and no sums."""

TRAIN_STREAM: Final = "train"
"""The stream of training steps."""


@dataclass(frozen=True, slots=True)
class StepRequest:
    """Episodes to be computed with one version of the state.

    Attributes:
        stream: name of the sequence to which this step belongs, such as "train". Step numbers grow
            within a stream.
        step: number of the step, >= 0.
        kind: "gradient" for a sum of meta-gradients, "evaluate" for metrics only, "inner_curve" for
            metrics after each inner step.
        split: the split from which episodes are drawn.
        episode_step: the step number from which the seeds of episodes are derived.
        n_episodes: number of episodes, >= 1.
        spec: the workload: data, model and learner.
        state: the meta-learned state from which each episode adapts.
        values_per_episode: number of losses that each episode gives: 1, or more for "inner_curve".
            0 for a sum of sums.
    """

    stream: str
    step: int
    kind: Kind
    split: str
    episode_step: int
    n_episodes: int
    spec: WorkloadSpec
    state: MetaState
    values_per_episode: int = 1

    @property
    def is_compiled(self) -> bool:
        """Whether the computation is compiled, so that the compiler affects the bits."""
        return self.kind == "gradient" and self.spec.execution.is_compiled


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """Items to be encoded with a pretrained encoder. An item takes the place of an episode.

    Attributes:
        step: number of the step, >= 0.
        plan: describes the encoder, the form of the items, and the form of the features.
        items: the decoded items, an array of shape [n_episodes, *shape].
        take: called as soon as the features of n consecutive items arrive. Its arguments are the
            number of the first of these items, and the features, a float32 array of shape [n,
            features].
        stream, kind, split, episode_step, state, values_per_episode: fields of ``StepRequest``.
            Here, each of them has the same value in every request.
    """

    step: int
    plan: EncodingPlan
    items: Array
    take: Callable[[int, Array], None]
    stream: str = "encode"
    kind: Kind = "encode"
    split: str = "items"
    episode_step: int = 0
    state: MetaState = NO_STATE
    values_per_episode: int = 0

    @property
    def n_episodes(self) -> int:
        """Number of items."""
        return len(self.items)


AnyRequest = StepRequest | EncodeRequest


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of a step's episodes, computed as one job."""

    index: int
    first_episode: int
    n_episodes: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Facts about the job of a finished shard.

    Attributes:
        shard, attempt: index of the shard, and number of the attempt whose result was used.
        worker, device: the process that computed the shard ("host:pid"), and the device of the
            process.
        queue_wait_s, compute_s: time that the job waited in the queue, and time of its computation,
            in seconds.
        payload_bytes: size of the returned sum, in bytes.
        episodes: number of episodes in the shard.
        sent_us: when the attempt was sent, in microseconds since 1970; None if unknown.
        round_trip_s: seconds from sending the attempt until its result counted; NaN if unknown.
    """

    shard: int
    attempt: int
    worker: str
    device: str
    queue_wait_s: float
    compute_s: float
    payload_bytes: int
    episodes: int
    sent_us: int | None = None
    round_trip_s: float = math.nan


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A finished step.

    Attributes:
        sums: name of a tensor of the state -> sum of its gradients over all episodes; empty for
            steps of metrics only.
        metrics: metrics of each episode, in the order of the episodes. For "inner_curve", each
            episode has ``values_per_episode`` of them.
        jobs: facts about the job of each shard, in the order of the shards.
        retries: number of attempts beyond the first attempt of each shard, added up over all
            shards.
        workers_alive: number of live workers at the end of the step.
        missing_shards: indices of the shards that were not done at the step's deadline. Always
            empty with the policy "strict".
        missing_episodes: number of episodes in ``missing_shards``.
        attempts: number of attempts that were sent; 0 without a fleet.
        backups: number of attempts that were sent because another attempt was slow.
        dropped: number of attempts that failed, were lost, were refused or were rejected.
    """

    sums: Params
    metrics: tuple[EpisodeMetrics, ...]
    jobs: tuple[JobFacts, ...]
    retries: int
    workers_alive: int
    missing_shards: tuple[int, ...] = ()
    missing_episodes: int = 0
    attempts: int = 0
    backups: int = 0
    dropped: int = 0

    @property
    def is_degraded(self) -> bool:
        """Whether shards are missing."""
        return bool(self.missing_shards)

    def with_sums_of(self, reduction: "StepOutcome") -> "StepOutcome":
        """Return this outcome with the sums of a reduction step, and its attempts added."""
        return replace(
            self,
            sums=reduction.sums,
            retries=self.retries + reduction.retries,
            attempts=self.attempts + reduction.attempts,
            backups=self.backups + reduction.backups,
            dropped=self.dropped + reduction.dropped,
        )


Ticket = NewType("Ticket", int)
"""Identifies a begun step."""


class Dispatcher(Protocol):
    """Computes steps. All implementations give the same bits for the same request."""

    @property
    def fingerprint(self) -> str:
        """Numerics fingerprint of the computing processes; "" before the first result."""
        ...

    @property
    def processes_alive(self) -> int:
        """How many jobs can be computed at the same time; 0 without workers."""
        ...

    def set_episodes_per_job(self, episodes_per_job: int) -> None:
        """Set the number of episodes per job, >= 1, for steps that begin from now on."""
        ...

    def begin(self, request: StepRequest) -> Ticket:
        """Open a step. Several steps can be open at a time; ``finish`` advances all of them.

        Steps of kind "gradient" have priority. Steps of metrics only use the workers that would
        otherwise be idle.
        """
        ...

    def is_ready(self, ticket: Ticket) -> bool:
        """Return whether ``finish`` can start without waiting for workers. This is cheap."""
        ...

    def finish(self, ticket: Ticket) -> StepOutcome:
        """Wait for a step. The caller must finish a stream's steps in the order of their beginning.

        Raises:
            NumericsError: a loss or gradient is not finite.
            FleetError: the fleet cannot finish the step.
        """
        ...

    def drop(self, ticket: Ticket) -> None:
        """Give up a step that is no longer wanted."""
        ...

    def run_step(self, request: StepRequest) -> StepOutcome:
        """Begin a step and finish it. Raises the errors of ``finish``."""
        ...

    def settle(self) -> None:
        """Record outstanding attempts. Call it before recording the end of the run."""
        ...

    def close(self) -> None:
        """Release the run."""
        ...


_MOST_EVALUATION_SHARDS = 64


def cut(request: AnyRequest, episodes_per_job: int) -> tuple[Shard, ...]:
    """Return the shards of a step. They depend only on the configuration, not on the workers.

    The shards of a large evaluation have more episodes than the shards of a training step. This
    does not change any bits, because evaluations return no sums.
    """
    n_episodes, size = request.n_episodes, episodes_per_job
    if request.kind in MEASURED_ONLY:
        size = max(size, -(-n_episodes // _MOST_EVALUATION_SHARDS))
    return tuple(
        Shard(index, first, min(size, n_episodes - first))
        for index, first in enumerate(range(0, n_episodes, size))
    )
