"""Measuring how long episodes take, on those who will compute them."""

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
"""Measured for so long, it is not repeated: what is slow varies little, and somebody waits."""


def measure(
    dispatcher: Dispatcher, request: StepRequest, *, device: str, size: int | None = None
) -> ClassSpeed:
    """Measure the workers that ``dispatcher`` reaches; waits for some, as a run does.

    A first round of single episodes has them open data and model; then a few rounds of jobs of
    about the right length, on all processes at once, for they share caches and memory. All of it
    takes about as long as four outer steps at most. Leaves the dispatcher's size of jobs changed.

    Args:
        dispatcher: of one class of devices.
        request: the step.
        device: what to call the class.
        size: episodes in a job, where that is given; more than those of a step are computed then,
            if it takes that to have all processes at work.

    Raises:
        NumericsError: a loss or gradient is not finite.
        FleetError: the fleet cannot do it.
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
    """Have some jobs of ``size`` episodes computed; a shorter last one is left out."""
    n_jobs = max(_LEAST_JOBS, _JOBS_EACH * dispatcher.processes_alive)
    n_jobs = max(1, min(n_jobs, request.n_episodes // size))
    dispatcher.set_episodes_per_job(size)
    outcome = dispatcher.run_step(replace(request, step=index, n_episodes=n_jobs * size))
    return list(outcome.jobs)
