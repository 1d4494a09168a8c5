"""How long an episode takes, how it is best executed, how many make a job. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from metafleet.errors import ConfigError
from metafleet.options import parse_record

TARGET_S: Final = 0.1
"""What a job is worth at least, where the meta-batch allows: a job costs some milliseconds of
messages, and this makes that a few per cent."""


@dataclass(frozen=True, slots=True)
class ClassSpeed:
    """How fast the workers of one class of devices are.

    Attributes:
        device: the class: "cpu" or "cuda".
        hardware: what its workers call their devices.
        processes: jobs they computed at a time.
        episode_s: median seconds of an episode, while all of them were at work.
        least_s, most_s: of the fastest and of the slowest job, by episode.
        jobs: how many jobs were measured.
        first_s: seconds that the first jobs took, with all that has to be opened or compiled.
    """

    device: str
    hardware: tuple[str, ...]
    processes: int
    episode_s: float
    least_s: float
    most_s: float
    jobs: int
    first_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.device} {1e3 * self.episode_s:.3g} ms an episode "
            f"({1e3 * self.least_s:.3g} to {1e3 * self.most_s:.3g} in {self.jobs} jobs; "
            f"at a time: {self.processes})"
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """What one way to execute episodes was worth.

    Attributes:
        execution: its name.
        episodes_per_job: in jobs of this size.
        classes: the measurements.
    """

    execution: str
    episodes_per_job: int
    classes: tuple[ClassSpeed, ...]

    @property
    def processes(self) -> int:
        """How many jobs were computed at a time."""
        return sum(speed.processes for speed in self.classes)

    def step_s(self, meta_batch_size: int) -> float:
        """Estimate an outer step: what its busiest process does, on the slowest class."""
        size = self.episodes_per_job
        rounds = -(-_count_jobs(meta_batch_size, size) // self.processes)
        busiest = min(rounds * size, meta_batch_size)
        return busiest * max(speed.episode_s for speed in self.classes)

    def run_s(self, meta_batch_size: int, n_steps: int) -> float:
        """Estimate so many outer steps, with what has to be done before the first."""
        first_s = max(speed.first_s for speed in self.classes)
        return first_s + n_steps * self.step_s(meta_batch_size)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured when a run began, and what was chosen by it.

    Attributes:
        episodes_per_job: the choice; part of the run's arithmetic from then on.
        meta_batch_size: episodes of an outer step, which it was chosen for.
        target_s: what a job should be worth, seconds.
        classes: the measurements, one for each class of devices that was there.
        execution: how episodes are executed, where that was chosen as well; "" where it was given.
        trials: the ways that were tried.
    """

    episodes_per_job: int
    meta_batch_size: int
    target_s: float
    classes: tuple[ClassSpeed, ...]
    execution: str = ""
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, meta_batch_size: int, classes: Sequence[ClassSpeed]) -> Self:
        """Choose by measurements; one at least."""
        size = choose_episodes_per_job(
            meta_batch_size,
            episode_s=max(speed.episode_s for speed in classes),
            processes=sum(speed.processes for speed in classes),
        )
        return cls(size, meta_batch_size, TARGET_S, tuple(classes))

    @classmethod
    def choose(cls, meta_batch_size: int, trials: Sequence[Trial], *, n_steps: int) -> Self:
        """Choose the trial by which ``n_steps`` outer steps take the least time; one at least."""
        best = min(trials, key=lambda trial: trial.run_s(meta_batch_size, n_steps))
        return cls(
            best.episodes_per_job,
            meta_batch_size,
            TARGET_S,
            best.classes,
            execution=best.execution,
            trials=tuple(trials),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ConfigError: it is something else.
        """
        return parse_record(cls, values, where="the run's calibration", error=ConfigError)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values, for the runs.calibration column."""
        return asdict(self)

    def __str__(self) -> str:
        measured = ", ".join(map(str, self.classes))
        return f"{self.episodes_per_job} to a job, by measurement: {measured}"

    @property
    def reason(self) -> str:
        """Say how episodes are executed, and what was measured; "" where it was given."""
        tried = ", ".join(
            f"{trial.execution} {1e3 * trial.step_s(self.meta_batch_size):.3g} ms a step"
            for trial in self.trials
        )
        return f"{self.execution}, by measurement: {tried}" if self.execution else ""


def choose_episodes_per_job(meta_batch_size: int, *, episode_s: float, processes: int) -> int:
    """Choose how many episodes make a job.

    A job is worth ``TARGET_S``, unless processes would then go without one. Between that and twice
    that, the size wins by which the busiest process has the fewest episodes; then the one that
    leaves the smallest rest; then the smaller one.

    Args:
        meta_batch_size: episodes of an outer step, >= 1.
        episode_s: seconds of an episode; where there are several classes of devices, on the
            slowest, for any job may come to be computed there.
        processes: jobs that are computed at a time, >= 1.
    """
    wanted = math.ceil(TARGET_S / max(episode_s, 1e-9))
    sizes = range(1, meta_batch_size + 1)
    fed = min(processes, meta_batch_size)
    most = max(size for size in sizes if _count_jobs(meta_batch_size, size) >= fed)
    least = min(wanted, meta_batch_size // fed)

    def cost(size: int) -> tuple[int, int, int]:
        rounds = -(-_count_jobs(meta_batch_size, size) // processes)
        return rounds * size, -meta_batch_size % size, size

    return min(range(least, min(2 * least, most) + 1), key=cost)


def _count_jobs(episodes: int, size: int) -> int:
    return -(-episodes // size)
