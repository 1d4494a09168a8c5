"""One step: what is asked for, how it is cut, and what came out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NewType, Protocol

from metafleet.contracts.job import Kind
from metafleet.learners.base import EpisodeMetrics
from metafleet.params import MetaState, Params
from metafleet.workload import WorkloadSpec

TRAIN_STREAM: Final = "train"
"""The sequence of steps that train."""


@dataclass(frozen=True, slots=True)
class StepRequest:
    """Episodes to be worked through with one version of the state.

    Attributes:
        stream: the sequence this step belongs to; steps of a stream are numbered upwards.
        step: its number, >= 0.
        kind: "gradient" for a sum of meta-gradients, "evaluate" for metrics alone.
        split: where episodes come from.
        episode_step: the step that episode seeds are drawn for.
        n_episodes: how many, >= 1.
        spec: the work: data, model, learner.
        state: the meta-learned state they start from.
    """

    stream: str
    step: int
    kind: Kind
    split: str
    episode_step: int
    n_episodes: int
    spec: WorkloadSpec
    state: MetaState

    @property
    def is_compiled(self) -> bool:
        """True when a compiler has a part in the bits."""
        return self.kind == "gradient" and self.spec.execution.is_compiled


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of a step's episodes, computed as one job."""

    index: int
    first_episode: int
    n_episodes: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """How one shard was done.

    Attributes:
        shard, attempt: which, and on which attempt it was done.
        worker, device: by whom ("host:pid") and on what.
        queue_wait_s, compute_s: seconds in the queue and of computing.
        payload_bytes: bytes of the returned sum.
        episodes: number of episodes.
    """

    shard: int
    attempt: int
    worker: str
    device: str
    queue_wait_s: float
    compute_s: float
    payload_bytes: int
    episodes: int


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A finished step.

    Attributes:
        sums: flattened state-shaped sums over all episodes; empty for "evaluate".
        metrics: one for each episode, in order of episode.
        jobs: one for each shard, in order.
        retries: attempts beyond the first, over all shards.
        workers_alive: workers known to be alive at the end.
        missing_shards: shards left out at the step's deadline; empty unless the policy is partial.
        missing_episodes: episodes of these shards.
        attempts: attempts sent; 0 when there is no fleet.
        backups: of these, sent because another was slow.
        dropped: of these, failed, lost, refused or rejected.
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
        """True when shards were left out."""
        return bool(self.missing_shards)

    def with_sums_of(self, reduction: "StepOutcome") -> "StepOutcome":
        """Take the sums that workers added up, and what it took them."""
        return replace(
            self,
            sums=reduction.sums,
            retries=self.retries + reduction.retries,
            attempts=self.attempts + reduction.attempts,
            backups=self.backups + reduction.backups,
            dropped=self.dropped + reduction.dropped,
        )


Ticket = NewType("Ticket", int)
"""Stands for a step that was begun."""


class Dispatcher(Protocol):
    """Gets steps done. The same request gives the same bits from every implementation."""

    @property
    def fingerprint(self) -> str:
        """Numerics fingerprint of those who computed; "" while none has."""
        ...

    @property
    def processes_alive(self) -> int:
        """How many jobs can be computed at a time just now; 0 while nobody is there."""
        ...

    def set_episodes_per_job(self, episodes_per_job: int) -> None:
        """Cut every step from now on into jobs of so many episodes, >= 1."""
        ...

    def begin(self, request: StepRequest) -> Ticket:
        """Open a step beside those that are open; it is worked on while any of them is awaited.

        Gradients go first, evaluations fill what they leave idle.
        """
        ...

    def is_ready(self, ticket: Ticket) -> bool:
        """Tell whether ``finish`` would wait for nobody else; costs nothing."""
        ...

    def finish(self, ticket: Ticket) -> StepOutcome:
        """Wait for a step; steps of one stream are finished in the order they were begun.

        Raises:
            NumericsError: a loss or gradient is not finite.
            FleetError: the fleet cannot finish it.
        """
        ...

    def drop(self, ticket: Ticket) -> None:
        """Give up a step that is not wanted any more."""
        ...

    def run_step(self, request: StepRequest) -> StepOutcome:
        """Begin a step and finish it; raises as ``finish`` does."""
        ...

    def settle(self) -> None:
        """Record what is left to record; before the run's end is."""
        ...

    def close(self) -> None:
        """Let go of the run."""
        ...


_MOST_EVALUATION_SHARDS = 64
_MOST_NAMED = 8


def name_shards(shards: Sequence[int]) -> str:
    """Name shards, not more than a few: "shard 3", "shards 3, 7", "shards 3, 7, ... (20)"."""
    named = ", ".join(map(str, shards[:_MOST_NAMED]))
    more = f", ... ({len(shards)})" if len(shards) > _MOST_NAMED else ""
    return f"shard{'' if len(shards) == 1 else 's'} {named}{more}"


def cut(request: StepRequest, episodes_per_job: int) -> tuple[Shard, ...]:
    """Cut a step into shards by configuration alone, never by the number of workers.

    Evaluations, which add nothing up, take more episodes at a time where there are many.
    """
    n_episodes, size = request.n_episodes, episodes_per_job
    if request.kind == "evaluate":
        size = max(size, -(-n_episodes // _MOST_EVALUATION_SHARDS))
    return tuple(
        Shard(index, first, min(size, n_episodes - first))
        for index, first in enumerate(range(0, n_episodes, size))
    )
