"""Memory over many steps: Redis, the host, the orchestrator and the workers keep nothing."""

import gc
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import psutil
import pytest
import torch

from metafleet.contracts.connections import connect
from metafleet.data import registry as datasets
from metafleet.episode import META_TRAIN
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.params import MetaState, Params
from metafleet.reduction import TreeReducer
from metafleet.workload import Workload
from tests.fleet import Fleet
from tests.messages import new_uid
from tests.runs import config

N_SHARDS = 16
WARM_UP, STEPS = 6, 16
SUM_BYTES = 370_000
"""About as large as the sums of the model below."""

EXPERIMENT = config(
    model={"hidden": [300, 300]}, learner={"inner_steps": 1}, episodes={"k_shot": 1, "n_query": 1}
)


class Bench:
    """Steps of many shards over the standing fleet of two workers."""

    def __init__(self, fleet: Fleet, memory: Path | None) -> None:
        self.settings = replace(
            fleet.settings, host_cache_dir=memory or fleet.settings.host_cache_dir
        )
        data_dir, epochs = self.settings.data_dir, itertools.count(1)
        self.spec = EXPERIMENT.workload_spec(datasets.open_data(EXPERIMENT.data, data_dir).digest())
        self.state = Workload.build(self.spec, data_dir=data_dir).init_state()
        self.uid = new_uid()
        self.dispatcher = FleetDispatcher(
            self.settings,
            self.uid,
            options=FleetOptions(
                episodes_per_job=1,
                device="cpu",
                is_strict=True,
                max_attempts=3,
                step_deadline_s=120.0,
            ),
            next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
            notify=lambda _: None,
        )
        self._numbers = itertools.count(1)

    def step(self) -> None:
        """One step from a version of the state that is like no other."""
        number = next(self._numbers)
        params = {name: tensor + 1e-3 * number for name, tensor in self.state.params.items()}
        request = StepRequest(
            stream="train",
            step=number,
            kind="gradient",
            split=META_TRAIN,
            episode_step=number,
            n_episodes=N_SHARDS,
            spec=self.spec,
            state=MetaState(params, self.state.buffers),
        )
        assert len(self.dispatcher.run_step(request).jobs) == N_SHARDS

    def keys(self) -> dict[str, int]:
        """Bytes of the run's keys, by what follows its uid."""
        with connect(str(self.settings.broker_url)) as client:
            names = list(client.scan_iter(f"mf:{{{self.uid}}}*", count=1000))
            assert all(client.pttl(name) > 0 for name in names)
            found: dict[str, int] = {}
            for name in names:
                kind = name.decode().split(":")[2]
                found[kind] = found.get(kind, 0) + cast(int, client.memory_usage(name))
        return found

    def files(self) -> int:
        """How many files this host's processes share."""
        return sum(path.is_file() for path in self.settings.host_cache_dir.glob("run-*/*"))


@pytest.fixture(params=["one host", "two hosts"])
def bench(standing_fleet: Fleet, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(standing_fleet, None if request.param == "one host" else tmp_path / "memory")
    yield bench
    bench.dispatcher.close()
    # who owns the run at which epoch, and the numbers of the last closed steps
    assert bench.keys().keys() == {"epoch", "holder", "train", "train-again"}


def large_tensors() -> int:
    """Count tensors of some size that are alive in this process."""
    gc.collect()
    return sum(type(thing) is torch.Tensor and thing.numel() > 1000 for thing in gc.get_objects())


def rss_of_workers(fleet: Fleet) -> list[int]:
    return [psutil.Process(worker.pid).memory_info().rss for worker in fleet.workers]


def test_many_steps_leave_nothing_behind(
    bench: Bench, standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    most_alive = 0
    add = TreeReducer.add

    def watched(self: TreeReducer, shard: int, tensors: Params, *, may_change: bool = True) -> None:
        nonlocal most_alive
        add(self, shard, tensors, may_change=may_change)
        most_alive = max(most_alive, self.n_alive)

    monkeypatch.setattr(TreeReducer, "add", watched)

    own = psutil.Process()
    for _ in range(WARM_UP):
        bench.step()
    keys, tensors, files = bench.keys(), large_tensors(), bench.files()
    own_rss, worker_rss = own.memory_info().rss, rss_of_workers(standing_fleet)
    for _ in range(STEPS):
        bench.step()
        found = bench.keys()
        assert found.keys() == keys.keys()
        assert all(found[kind] <= n_bytes + 64 for kind, n_bytes in keys.items())
    assert large_tensors() <= tensors
    # states, free files, and the lock
    assert bench.files() <= max(files, 3 + 16 + 1)

    # a shard that is still in work keeps the tree open at log2(n) places at most
    assert 1 < most_alive <= math.log2(N_SHARDS) * len(standing_fleet.workers) + 1
    # a job or step that kept its sum would have kept many times this
    assert own.memory_info().rss - own_rss < STEPS * N_SHARDS * SUM_BYTES / 10
    for before, after in zip(worker_rss, rss_of_workers(standing_fleet), strict=True):
        assert after - before < STEPS * N_SHARDS / 2 * SUM_BYTES / 10
