import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metafleet.data import registry
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError, ContractError, DataCorruptError, NumericsError
from metafleet.params import MetaState, digest, flatten_state, unflatten_state
from metafleet.workload import Workload, WorkloadSpec
from tests.paths import REPOSITORY
from tests.unit.metafleet.few_shot import SHAPE, TINY_CONV4, FakeSource

SPEC = WorkloadSpec(
    seed=11,
    data={"name": "fake"},
    data_digest="",
    episodes={"meta_train": SHAPE, "meta_test": SHAPE},
    model=TINY_CONV4,
    learner={"name": "maml", "inner_lr": 0.3, "inner_steps": 2},
)


def sinusoid_spec(tmp_path: Path) -> WorkloadSpec:
    data = {"name": "sinusoid"}
    return WorkloadSpec(
        seed=3,
        data=data,
        data_digest=registry.open_data(data, tmp_path).digest(),
        episodes={"meta_train": EpisodeShape(0, 5, 7)},
        model={"name": "mlp"},
        learner={"name": "maml", "inner_lr": 0.01, "inner_steps": 2},
    )


def test_a_shard_is_the_sum_of_its_episodes_in_order() -> None:
    workload = Workload.bind(SPEC, FakeSource())
    state = workload.init_state()
    place = {"split": "meta_train", "step": 4}

    shard = workload.gradient(state, **place, first_episode=6, n_episodes=3)

    single = [workload.gradient(state, **place, first_episode=i, n_episodes=1) for i in (6, 7, 8)]
    grads = {n: single[0].grads[n] + single[1].grads[n] + single[2].grads[n] for n in state.params}
    assert digest(shard.grads) == digest(grads)
    assert shard.metrics == tuple(s.metrics[0] for s in single)
    assert len(set(shard.metrics)) == 3
    assert all(bool((g != 0).any()) for g in shard.grads.values())


def test_batch_statistics_are_summed_as_gradients_are() -> None:
    spec = replace(SPEC, model=TINY_CONV4 | {"batch_norm": "running"})
    workload = Workload.bind(spec, FakeSource())
    state = workload.init_state()
    place = {"split": "meta_train", "step": 0}

    both = workload.gradient(state, **place, first_episode=0, n_episodes=2).buffers

    first = workload.gradient(state, **place, first_episode=0, n_episodes=1).buffers
    second = workload.gradient(state, **place, first_episode=1, n_episodes=1).buffers
    assert both.keys() == state.buffers.keys()
    assert digest(both) == digest({n: first[n] + second[n] for n in first})


def test_evaluation_judges_the_episodes_of_its_split() -> None:
    workload = Workload.bind(SPEC, FakeSource())
    state = workload.init_state()
    test = workload.evaluate(state, split="meta_test", step=0, first_episode=0, n_episodes=4)
    assert len(set(test)) == 4
    assert test[2:] == workload.evaluate(
        state, split="meta_test", step=0, first_episode=2, n_episodes=2
    )
    assert test != workload.evaluate(
        state, split="meta_train", step=0, first_episode=0, n_episodes=4
    )


def test_the_schema_describes_the_flattened_state() -> None:
    spec = replace(SPEC, model=TINY_CONV4 | {"batch_norm": "running"})
    workload = Workload.bind(spec, FakeSource())
    tensors = flatten_state(workload.init_state())
    schema = workload.schema()
    assert schema.keys() == tensors.keys()
    assert schema["params.block0.conv.weight"] == ("float32", (3, 2, 3, 3))
    assert schema["buffers.block1.variance"] == ("float32", (3,))
    assert workload.batch_norm == "running"


def test_a_state_survives_flattening() -> None:
    spec = replace(SPEC, model=TINY_CONV4 | {"batch_norm": "running"})
    state = Workload.bind(spec, FakeSource()).init_state()
    again = unflatten_state(flatten_state(state))
    assert digest(again.params) == digest(state.params)
    assert digest(again.buffers) == digest(state.buffers)


def test_a_state_that_diverged_names_split_step_and_episode() -> None:
    workload = Workload.bind(SPEC, FakeSource())
    state = workload.init_state()
    broken = MetaState(state.params | {"head.bias": torch.full((3,), float("nan"))}, state.buffers)
    for call in (workload.gradient, workload.evaluate):
        with pytest.raises(
            NumericsError, match=r"meta_train step=2 episode=5: support loss is nan"
        ):
            call(broken, split="meta_train", step=2, first_episode=5, n_episodes=1)


def test_a_spec_survives_json() -> None:
    assert WorkloadSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed=-1; expected an integer"),
        ({"seed": True}, "seed=True; expected a whole number"),
        ({"seed": 2**64}, "seed is beyond 64 bits"),
        ({"data_digest": 7}, "data_digest=7"),
        ({"model": "conv4"}, "model='conv4'; expected a table"),
        ({"episodes": {"meta_train": 5}}, "episodes.meta_train is 5; expected a table"),
        ({"execution": {"name": "vmap"}}, "expected name, precision, chunk"),
        ({"execution": SPEC.execution.to_json() | {"chunk": -1}}, "chunk=-1; expected 0 or more"),
        (
            {"execution": SPEC.execution.to_json() | {"name": "magic"}},
            "name='magic'; expected",
        ),
        ({"extra": 1}, "expected the keys"),
    ],
)
def test_json_that_is_no_workload_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        WorkloadSpec.from_json(SPEC.to_json() | change)
    assert message in str(caught.value)


def test_json_of_another_kind_is_refused() -> None:
    with pytest.raises(ContractError, match="workload holds list"):
        WorkloadSpec.from_json([1, 2])
    with pytest.raises(ContractError, match="has no option 'n_ways'"):
        WorkloadSpec.from_json(SPEC.to_json() | {"episodes": {"meta_test": {"n_ways": 5}}})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (EpisodeShape(1, 1, 1), "n_way=1 in 'meta_train' but the data are classification"),
        (EpisodeShape(0, 1, 1), "n_way=0 in 'meta_train' but the data are classification"),
        (EpisodeShape(3, 0, 1), "k_shot=0; expected 1 or more in 'meta_train'"),
        (EpisodeShape(3, 1, -2), "n_query=-2; expected 1 or more in 'meta_train'"),
        (EpisodeShape(30, 1, 1), "n_way=30 but split 'meta_train' has 20 classes"),
    ],
)
def test_impossible_episodes_are_refused_when_building(shape: EpisodeShape, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Workload.bind(replace(SPEC, episodes={"meta_train": shape}), FakeSource())
    assert message in str(caught.value)


def test_a_split_without_episodes_is_named() -> None:
    workload = Workload.bind(SPEC, FakeSource())
    with pytest.raises(ConfigError, match="split='meta_val' has no episodes in this run"):
        workload.evaluate(
            workload.init_state(), split="meta_val", step=0, first_episode=0, n_episodes=1
        )


def test_a_regression_run_is_built_from_its_description(tmp_path: Path) -> None:
    workload = Workload.build(sinusoid_spec(tmp_path), data_dir=tmp_path)
    gradient = workload.gradient(
        workload.init_state(), split="meta_train", step=0, first_episode=0, n_episodes=2
    )
    assert all(m.accuracy is None and m.loss > 0 for m in gradient.metrics)
    assert all(bool((g != 0).any()) for g in gradient.grads.values())


def test_other_data_than_the_run_began_with_are_refused(tmp_path: Path) -> None:
    spec = replace(sinusoid_spec(tmp_path), data_digest="0" * 64)
    with pytest.raises(DataCorruptError, match="the run began with 000000000000"):
        Workload.build(spec, data_dir=tmp_path)


def test_regression_data_refuse_classes(tmp_path: Path) -> None:
    spec = replace(sinusoid_spec(tmp_path), episodes={"meta_train": EpisodeShape(5, 1, 1)})
    with pytest.raises(ConfigError, match="n_way"):
        Workload.build(spec, data_dir=tmp_path)


GRADIENT_DIGEST = """
import json, sys
from pathlib import Path
import torch
from metafleet import Workload, WorkloadSpec, digest
from tests.unit.metafleet.few_shot import FakeSource
torch.set_num_threads(1)
clutter = [torch.rand(1 + 97 * i) for i in range(60)]  # another layout of memory
for spec in json.loads(sys.argv[1]):
    spec = WorkloadSpec.from_json(spec)
    if spec.data["name"] == "fake":
        workload = Workload.bind(spec, FakeSource({"image": (1, 28, 28)}))
    else:
        workload = Workload.build(spec, data_dir=Path(sys.argv[2]))
    state = workload.init_state()
    for step in range(2):
        shard = workload.gradient(
            state, split="meta_train", step=step, first_episode=0, n_episodes=2
        )
    print(digest(shard.grads))
"""


def test_other_processes_compute_the_same_bits(tmp_path: Path) -> None:
    conv4 = replace(SPEC, model={"name": "conv4", "channels": 16})
    protonet = replace(conv4, learner={"name": "protonet"})
    images = FakeSource({"image": (1, 28, 28)})
    specs = [sinusoid_spec(tmp_path), conv4, protonet]
    workloads = [
        Workload.build(specs[0], data_dir=tmp_path),
        *(Workload.bind(spec, images) for spec in specs[1:]),
    ]
    here = [
        digest(
            workload.gradient(
                workload.init_state(), split="meta_train", step=1, first_episode=0, n_episodes=2
            ).grads
        )
        for workload in workloads
    ]
    specs_json = json.dumps([spec.to_json() for spec in specs])
    there = subprocess.run(
        [sys.executable, "-c", GRADIENT_DIGEST, specs_json, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=REPOSITORY,
    )
    assert there.stdout.split() == here
    assert len(set(here)) == 3


def test_the_order_of_a_table_of_options_decides_nothing() -> None:
    """A message between processes keeps no order, and a fusion joins what it has in one."""
    encoders = {"text": {"name": "ngram_bag", "dim": 8}, "image": TINY_CONV4}
    model = {"name": "fusion", "encoders": encoders, "batch_norm": "support"}
    data = {"name": "fake", "parts": [{"weight": 1, "name": "b"}, {"name": "a"}]}
    spec = replace(SPEC, model=model, data=data)

    sent = WorkloadSpec.from_json(json.loads(json.dumps(spec.to_json(), sort_keys=True)))

    assert sent == spec
    assert json.dumps(sent.to_json()["model"]) == json.dumps(spec.to_json()["model"])
    assert json.dumps(sent.to_json()["data"]) == json.dumps(spec.to_json()["data"])
    assert [part["name"] for part in spec.data["parts"]] == ["b", "a"]
