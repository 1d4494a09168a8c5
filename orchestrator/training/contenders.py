"""What a trained state is judged beside, on the same episodes: two that have learned nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from metafleet.episode import EpisodeShape
from metafleet.execution.strategy import Strategy
from metafleet.params import MetaState
from metafleet.workload import Workload, WorkloadSpec


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


def baselines_of(spec: WorkloadSpec, workload: Workload) -> Iterator[Contender]:
    """Yield the baselines of a run; raw inputs are compared in classification, within modalities.

    Args:
        spec: of the run, perhaps with other episodes than its own.
        workload: built by ``spec``.
    """
    yield Contender("initialisation", spec, workload.init_state(), workload.batch_norm)
    if all(shape.n_way > 0 and _share_modalities(shape) for shape in spec.episodes.values()):
        raw = replace(
            spec,
            learner={"name": "nearest_prototype"},
            execution=Strategy("autograd", spec.execution.precision),
        )
        yield Contender("nearest_prototype", raw, MetaState({}, {}), "none")


def _share_modalities(shape: EpisodeShape) -> bool:
    """Tell whether support and queries may show one modality: across them nothing raw compares."""
    support, query = set(shape.support_modalities), set(shape.query_modalities)
    return not support or not query or bool(support & query)
