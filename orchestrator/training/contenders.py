"""What a trained state is judged beside, on the same episodes: two that have learned nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

from metafleet.params import MetaState
from metafleet.workload import Workload, WorkloadSpec
from orchestrator.config.experiment import ExperimentConfig


@dataclass(frozen=True, slots=True)
class Contender:
    """A state, and the workload that judges it.

    Attributes:
        label: "trained"; "initialisation", the run's learner before training; or
            "nearest_prototype", on the raw inputs.
        spec: the workload.
        state: what is judged; empty without a network.
        batch_norm: batch-norm mode, printed with the result.
    """

    label: str
    spec: WorkloadSpec
    state: MetaState
    batch_norm: str


def baselines_of(
    config: ExperimentConfig, workload: Workload, data_digest: str
) -> Iterator[Contender]:
    """Yield the baselines of a run; raw inputs are compared in classification alone.

    Args:
        config: of the run, or with other episodes than its own.
        workload: built by ``config``.
        data_digest: of the run's data.
    """
    spec = config.workload_spec(data_digest)
    yield Contender("initialisation", spec, workload.init_state(), workload.batch_norm)
    if config.episodes.n_way > 0:
        raw = config.model_copy(update={"learner": {"name": "nearest_prototype"}})
        spec = raw.with_execution("autograd").workload_spec(data_digest)
        yield Contender("nearest_prototype", spec, MetaState({}, {}), "none")
