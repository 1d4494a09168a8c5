"""The trained state and its two untrained baselines, evaluated on the same episodes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from metafleet.episode import EpisodeShape
from metafleet.execution.strategy import Strategy
from metafleet.params import MetaState
from metafleet.workload import Workload, WorkloadSpec


@dataclass(frozen=True, slots=True)
class Contender:
    """A state, and the workload that evaluates it.

    Attributes:
        label: "trained" for the trained state, "initialisation" for the run's learner before
            training, or "nearest_prototype" for nearest prototypes of raw inputs.
        spec: the workload.
        state: the state to evaluate; empty for "nearest_prototype", which has no network.
        batch_norm: batch-norm mode, printed with the result.
    """

    label: str
    spec: WorkloadSpec
    state: MetaState
    batch_norm: str


def baselines_of(spec: WorkloadSpec, workload: Workload) -> Iterator[Contender]:
    """Yield the baselines of a run: its initialisation, and nearest prototypes of raw inputs.

    Nearest prototypes are left out in three cases: in regression, if items have several labels, and
    if support and query examples have no modality in common.

    Args:
        spec: the run's workload, or the same workload with other episodes.
        workload: the workload that was built from ``spec``.
    """
    yield Contender("initialisation", spec, workload.init_state(), workload.batch_norm)
    has_classes = not getattr(workload.source, "label_separator", "")
    shapes = spec.episodes.values()
    if has_classes and all(shape.n_way > 0 and _share_modalities(shape) for shape in shapes):
        raw = replace(
            spec,
            learner={"name": "nearest_prototype"},
            execution=Strategy("autograd", spec.execution.precision),
        )
        yield Contender("nearest_prototype", raw, MetaState({}, {}), "none")


def _share_modalities(shape: EpisodeShape) -> bool:
    """Return whether support and query can share a modality; raw inputs need one to compare."""
    support, query = set(shape.support_modalities), set(shape.query_modalities)
    return not support or not query or bool(support & query)
