"""Measures how long episodes take on the workers that will compute them."""

import math
import statistics
import time
from dataclasses import replace
from typing import Final

from metafleet.orchestrator.autotune.calibration import TARGET_S, ClassSpeed
from metafleet.orchestrator.engine.step import Dispatcher, JobFacts, StepRequest

STREAM: Final = "calibrate"
_REPEATS: Final = 3
_LEAST_JOBS: Final = 4
_JOBS_EACH: Final = 2
_ENOUGH_S: Final = 2.0
"""Do not repeat a longer measurement: slow jobs vary little, and the user waits."""


def measure(
    dispatcher: Dispatcher, request: StepRequest, *, device: str, size: int | None = None
) -> ClassSpeed:
    """Return the measured speed of the workers that ``dispatcher`` reaches.

    The function waits until there are workers, as a run does. In the first round, each job has one
    episode, and the workers open the data and build the model. A few rounds with longer jobs
    follow. In each of these rounds, all processes compute at the same time. This is necessary
    because processes share caches and memory, and slow each other down. The measurement takes at
    most about the time of four outer steps. It changes the dispatcher's job size.

    Args:
        dispatcher: dispatcher of one device class.
        request: the step whose episodes are computed.
        device: name of the device class.
        size: episodes in a job. None means that this function chooses the number. If the size is
            given, a step may have too few jobs to keep all processes busy. The measurement then
            computes more episodes than a step has.

    Raises:
        NumericsError: a loss or gradient is not finite.
        FleetError: the fleet cannot compute the jobs.
    """
    began_s = time.monotonic()
    warm = _round(dispatcher, request, index=0, size=1)
    first_s = time.monotonic() - began_s
    if size is None:
        size = math.ceil(TARGET_S / max(1e-6, min(job.compute_s for job in warm)))
        size = max(1, min(size, request.n_episodes // max(1, dispatcher.processes_alive)))
    else:
        n_jobs = max(_LEAST_JOBS, _JOBS_EACH * dispatcher.processes_alive)
        request = replace(request, n_episodes=max(request.n_episodes, n_jobs * size))
    jobs: list[JobFacts] = []
    began_s = time.monotonic()
    for index in range(1, 1 + _REPEATS):
        jobs += _round(dispatcher, request, index=index, size=size)
        if time.monotonic() - began_s > _ENOUGH_S:
            break
    by_episode = [job.compute_s / job.episodes for job in jobs]
    return ClassSpeed(
        device=device,
        hardware=tuple(sorted({job.device for job in jobs})),
        processes=max(1, dispatcher.processes_alive),
        episode_s=statistics.median(by_episode),
        least_s=min(by_episode),
        most_s=max(by_episode),
        jobs=len(jobs),
        first_s=first_s,
    )


def _round(
    dispatcher: Dispatcher, request: StepRequest, *, index: int, size: int
) -> list[JobFacts]:
    """Compute some jobs of exactly ``size`` episodes."""
    n_jobs = max(_LEAST_JOBS, _JOBS_EACH * dispatcher.processes_alive)
    n_jobs = max(1, min(n_jobs, request.n_episodes // size))
    dispatcher.set_episodes_per_job(size)
    outcome = dispatcher.run_step(replace(request, step=index, n_episodes=n_jobs * size))
    return list(outcome.jobs)
