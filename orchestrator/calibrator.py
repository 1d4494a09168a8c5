"""Measuring how long episodes take, on those who will compute them."""

import math
import statistics
import time
from dataclasses import replace
from typing import Final

from metafleet.episode import META_TRAIN
from metafleet.params import MetaState
from metafleet.workload import WorkloadSpec
from orchestrator.calibration import TARGET_S, ClassSpeed
from orchestrator.engine.step import Dispatcher, JobFacts, StepRequest

STREAM: Final = "calibrate"
_REPEATS: Final = 3
_LEAST_JOBS: Final = 4
_JOBS_EACH: Final = 2
_ENOUGH_S: Final = 2.0
"""Measured for so long, it is not repeated: what is slow varies little, and somebody waits."""


def calibration_request(
    spec: WorkloadSpec, state: MetaState, *, meta_batch_size: int
) -> StepRequest:
    """Describe what is measured: the first outer step, whose episodes come up anyway.

    What fails here, for want of data or by a loss that is not finite, would fail there.
    """
    return StepRequest(
        stream=STREAM,
        step=0,
        kind="gradient",
        split=META_TRAIN,
        episode_step=1,
        n_episodes=meta_batch_size,
        spec=spec,
        state=state,
    )


def measure(dispatcher: Dispatcher, request: StepRequest, *, device: str) -> ClassSpeed:
    """Measure the workers that ``dispatcher`` reaches; waits for some, as a run does.

    A first round of single episodes has them open data and model; then a few rounds of jobs of
    about the right length, on all processes at once, for they share caches and memory. All of it
    takes about as long as four outer steps at most. Leaves the dispatcher's size of jobs changed.

    Args:
        dispatcher: of one class of devices.
        request: the step, made by ``calibration_request``.
        device: what to call the class.

    Raises:
        NumericsError: a loss or gradient is not finite.
        FleetError: the fleet cannot do it.
    """
    warm = _round(dispatcher, request, index=0, size=1)
    size = math.ceil(TARGET_S / max(1e-6, min(job.compute_s for job in warm)))
    size = max(1, min(size, request.n_episodes // max(1, dispatcher.processes_alive)))
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
