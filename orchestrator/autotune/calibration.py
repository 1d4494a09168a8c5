"""Chooses execution and job size from measured episode times. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from metafleet.errors import ConfigError
from metafleet.options import parse_record

TARGET_S: Final = 0.1
"""Minimum compute time of a job, if the meta-batch allows: each job costs some milliseconds of
messaging, which is then a few per cent."""


@dataclass(frozen=True, slots=True)
class ClassSpeed:
    """Measured speed of the workers of one device class.

    Attributes:
        device: name of the class, "cpu" or "cuda".
        hardware: the workers' names for their devices.
        processes: number of jobs that the workers compute at the same time.
        episode_s: median over jobs of the seconds per episode, while all processes were busy.
        least_s, most_s: seconds per episode in the fastest and in the slowest job.
        jobs: number of measured jobs.
        first_s: seconds that the first jobs took, which includes opening data and compiling.
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
    """Measurements of one way to execute episodes.

    Attributes:
        execution: name of the execution strategy.
        episodes_per_job: episodes in each job.
        classes: the measurements, one per device class.
    """

    execution: str
    episodes_per_job: int
    classes: tuple[ClassSpeed, ...]

    @property
    def processes(self) -> int:
        """Number of jobs computed at a time."""
        return sum(speed.processes for speed in self.classes)

    def step_s(self, meta_batch_size: int) -> float:
        """Estimate the seconds of an outer step: its busiest process, on the slowest class."""
        size = self.episodes_per_job
        rounds = -(-_count_jobs(meta_batch_size, size) // self.processes)
        busiest = min(rounds * size, meta_batch_size)
        return busiest * max(speed.episode_s for speed in self.classes)

    def run_s(self, meta_batch_size: int, n_steps: int) -> float:
        """Estimate the seconds of ``n_steps`` outer steps, including the first jobs."""
        first_s = max(speed.first_s for speed in self.classes)
        return first_s + n_steps * self.step_s(meta_batch_size)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measurements at the start of a run, and the settings chosen from them.

    Attributes:
        episodes_per_job: the chosen job size. The bits of the run's results depend on it.
        meta_batch_size: episodes in an outer step. The job size was chosen for this number of
            episodes.
        target_s: target compute time of a job, in seconds.
        classes: the measurements, one per available device class.
        execution: the chosen execution; "" if the configuration sets it.
        trials: the measurements of each execution that was tried.
    """

    episodes_per_job: int
    meta_batch_size: int
    target_s: float
    classes: tuple[ClassSpeed, ...]
    execution: str = ""
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, meta_batch_size: int, classes: Sequence[ClassSpeed]) -> Self:
        """Choose the job size from one or more measurements."""
        size = choose_episodes_per_job(
            meta_batch_size,
            episode_s=max(speed.episode_s for speed in classes),
            processes=sum(speed.processes for speed in classes),
        )
        return cls(size, meta_batch_size, TARGET_S, tuple(classes))

    @classmethod
    def choose(cls, meta_batch_size: int, trials: Sequence[Trial], *, n_steps: int) -> Self:
        """Choose the trial (of one or more) with the least estimated time for ``n_steps`` steps."""
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
        """Parse the values that ``to_json`` returned.

        Raises:
            ConfigError: the values are not a calibration.
        """
        return parse_record(cls, values, where="the run's calibration", error=ConfigError)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for the runs.calibration column."""
        return asdict(self)

    def __str__(self) -> str:
        measured = ", ".join(map(str, self.classes))
        return f"{self.episodes_per_job} to a job, by measurement: {measured}"

    @property
    def reason(self) -> str:
        """Describe the chosen execution and its measurements; "" if the configuration sets it."""
        tried = ", ".join(
            f"{trial.execution} {1e3 * trial.step_s(self.meta_batch_size):.3g} ms a step"
            for trial in self.trials
        )
        return f"{self.execution}, by measurement: {tried}" if self.execution else ""


def choose_episodes_per_job(meta_batch_size: int, *, episode_s: float, processes: int) -> int:
    """Return how many episodes each job should have.

    Let s be the size at which a job takes ``TARGET_S`` seconds. If s leaves a process without a
    job, s is reduced. The candidates are the sizes from s to 2 s that leave no process without a
    job. The chosen size is the candidate that gives the fewest episodes to the busiest process. If
    several sizes are equally good, the size with the fullest last job is chosen. If there is still
    a choice, the smallest size is chosen. If there are fewer episodes than processes, each job has
    one episode.

    Args:
        meta_batch_size: episodes in an outer step, >= 1.
        episode_s: seconds per episode on the slowest device class. This class is used because any
            job may run there.
        processes: number of jobs that the workers compute at the same time, >= 1.
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
