"""Compiles a run's programs before its first step, outside the deadlines of its jobs."""

from collections.abc import Sequence
from typing import Final

from metafleet.episode import META_TRAIN
from metafleet.errors import NumericsError
from metafleet.learners.base import Learner
from metafleet.learners.episodic import EpisodicLearner
from metafleet.orchestrator.autotune.scratch import open_scratch
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher, StepRequest
from metafleet.params import MetaState
from metafleet.workload import WorkloadSpec

STREAM: Final = "warm-up"
LONGEST_COMPILING_S: Final = 3600.0
"""Minimum deadline of a job that compiles first."""

_JOBS_EACH: Final = 2
"""Jobs per worker process, so that most processes get one and load the compiled program."""


def steps_to_compile(learner: Learner, *, first: int, last: int) -> list[int]:
    """Return the first outer step of each different computation in steps ``first`` to ``last``."""
    if not isinstance(learner, EpisodicLearner):
        return []
    found: dict[str, int] = {}
    for step in range(first, last + 1):
        found.setdefault(learner.variant(step), step)
    return list(found.values())


def warm_up_here(
    dispatcher: Dispatcher, spec: WorkloadSpec, state: MetaState, *, steps: Sequence[int]
) -> None:
    """Compile in this process."""
    for number, step in enumerate(steps):
        _compute(dispatcher, _request(spec, state, number, step, spec.execution.chunk))


def warm_up_fleet(
    context: RunContext,
    config: ExperimentConfig,
    state: MetaState,
    *,
    spec: WorkloadSpec,
    steps: Sequence[int],
) -> None:
    """Make the fleet's workers compile the programs that a run needs.

    The jobs have a separate run name, and no rows are recorded. For each of ``steps``, one job is
    sent first, and its worker compiles the program. When that job has ended, enough jobs for all
    workers follow. If these jobs were sent earlier, they would only wait for the compiler.

    Args:
        context: context of the run.
        config: the experiment.
        state: the initial state.
        spec: the experiment's workload.
        steps: numbers of outer steps. Each of these steps needs another program.
    """
    patient = config.engine.model_copy(
        update={
            "numerics": "relaxed",
            "policy": "strict",
            "job_deadline_s": max(config.engine.job_deadline_s, LONGEST_COMPILING_S),
            "step_deadline_s": max(config.engine.step_deadline_s, LONGEST_COMPILING_S * len(steps)),
        }
    )
    plain = config.model_copy(update={"engine": patient})
    size = spec.execution.chunk
    with open_scratch(context, plain, stream=STREAM) as dispatcher:
        dispatcher.set_episodes_per_job(size)
        for number, step in enumerate(steps):
            _compute(dispatcher, _request(spec, state, 2 * number, step, size))
            jobs = _JOBS_EACH * max(1, dispatcher.processes_alive)
            _compute(dispatcher, _request(spec, state, 2 * number + 1, step, jobs * size))


def _compute(dispatcher: Dispatcher, request: StepRequest) -> None:
    try:
        dispatcher.run_step(request)
    except NumericsError:  # the program is compiled; if the run gets this error too, it reports it
        return


def _request(
    spec: WorkloadSpec, state: MetaState, number: int, step: int, n_episodes: int
) -> StepRequest:
    return StepRequest(
        stream=STREAM,
        step=number,
        kind="gradient",
        split=META_TRAIN,
        episode_step=step,
        n_episodes=n_episodes,
        spec=spec,
        state=state,
    )
