"""The baselines that a trained state is compared with."""

import pytest

from metafleet.episode import EpisodeShape
from metafleet.orchestrator.training.contenders import baselines_of
from metafleet.workload import Workload, WorkloadSpec
from tests.unit.metafleet.few_shot import FakeSource

BOTH = {"image": (1, 8, 8), "sound": (4, 8)}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ((), ["initialisation", "nearest_prototype"]),
        (("image", "sound"), ["initialisation", "nearest_prototype"]),
        (("sound",), ["initialisation"]),
    ],
    ids=["all", "one shared", "across"],
)
def test_across_modalities_nothing_raw_is_compared(
    query: tuple[str, ...], expected: list[str]
) -> None:
    shape = EpisodeShape(3, 1, 2, support_modalities=("image",), query_modalities=query)
    model = {"name": "fusion", "dim": 4, "encoders": {m: {"name": "mlp"} for m in BOTH}}
    spec = WorkloadSpec(1, {}, "", {"meta_test": shape}, model, {"name": "protonet"})
    workload = Workload.bind(spec, FakeSource(modalities=BOTH))

    assert [it.label for it in baselines_of(spec, workload)] == expected
