"""The cost of the engine: an outer step that computes nothing, and two workers against one.

    python -m benchmarks.engine [--repeats 9] [--only fixed|throughput] [--json FILE]

Fixed cost: 8 shards of a learner that computes nothing, on 2 worker processes. Throughput: conv4-64
MAML on glyphs, 8 episodes per step, one per shard, on 1 worker and on 2. The baselines are the bare
learning core in this process, and in 2 processes at once: cores share memory and caches, so no
engine can make 2 cores twice as fast as one. Rows run in turn, so that background load affects all
of them.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bare_cores import bare_cores
from benchmarks.data_plane import machine, spec_of
from metafleet.contracts.device import prepare_process
from metafleet.contracts.settings import Settings
from metafleet.data import registry as datasets
from metafleet.episode import META_TRAIN, EpisodeShape
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.params import MetaState
from metafleet.workload import Workload, WorkloadSpec
from tests.fleet import Fleet, open_fleet
from tests.redis_server import RedisServer

N_SHARDS = 8
FIXED_REPEATS = 20
"""No-op steps per repeat: a single one is short, and its time varies."""

OPTIONS = FleetOptions(
    episodes_per_job=1, device="cpu", is_strict=True, max_attempts=3, step_deadline_s=120.0
)


def maml_spec(settings: Settings) -> WorkloadSpec:
    """Describe conv4-64 MAML, 5-way 1-shot, second order, 5 inner steps."""
    data = {"name": "glyphs"}
    return WorkloadSpec(
        seed=1,
        data=data,
        data_digest=datasets.open_data(data, settings.data_dir).digest(),
        episodes={META_TRAIN: EpisodeShape(n_way=5, k_shot=1, n_query=7)},
        model={"name": "conv4", "channels": 64},
        learner={"name": "maml", "inner_lr": 0.4, "inner_steps": 5},
    )


@contextmanager
def fleet_step(
    settings: Settings, url: str, spec: WorkloadSpec, state: MetaState, *, n_workers: int
) -> Iterator[Callable[[], float]]:
    """Start workers with their own Redis; yield a step of 8 shards that returns its seconds."""
    home = settings.home / f"{n_workers}-{spec.learner['name']}".replace(":", ".")
    with open_fleet(home, url) as opened:
        own = replace(opened.settings, allowed_packages=("benchmarks",), data_dir=settings.data_dir)
        fleet, steps, epochs = Fleet(own), itertools.count(1), itertools.count(1)
        try:
            fleet.start(n_workers)
            dispatcher = FleetDispatcher(
                own,
                f"bench-{n_workers}",
                options=OPTIONS,
                next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
                notify=print,
            )

            def step() -> float:
                number = next(steps)
                request = StepRequest(
                    stream="train",
                    step=number,
                    kind="gradient",
                    split=META_TRAIN,
                    episode_step=number,
                    n_episodes=N_SHARDS,
                    spec=spec,
                    state=state,
                )
                started_s = time.perf_counter()
                dispatcher.run_step(request)
                return time.perf_counter() - started_s

            yield step
            dispatcher.close()
        finally:
            fleet.stop()


def bare_step(settings: Settings, spec: WorkloadSpec, state: MetaState) -> Callable[[], float]:
    """Return a step over the same episodes in this process, without the engine."""
    prepare_process("cpu")
    workload, steps = Workload.build(spec, data_dir=settings.data_dir), itertools.count(1)

    def step() -> float:
        started_s = time.perf_counter()
        workload.gradient(
            state, split=META_TRAIN, step=next(steps), first_episode=0, n_episodes=N_SHARDS
        )
        return time.perf_counter() - started_s

    return step


def measure(rows: dict[str, Callable[[], float]], repeats: int) -> dict[str, dict[str, float]]:
    """Run the rows in turn, with two warm-up turns; return milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + 2):
        for name, step in rows.items():
            spent_ms = 1e3 * step()
            if turn >= 2:
                times[name].append(spent_ms)
    return {
        name: {"median_ms": statistics.median(ms), "min_ms": min(ms), "max_ms": max(ms)}
        for name, ms in times.items()
    }


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", choices=["fixed", "throughput"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = Settings.load({"METAFLEET_HOME": str(home)})
        idle, busy = spec_of(settings, 48_000), maml_spec(settings)
        state = Workload.build(busy, data_dir=settings.data_dir).init_state()
        nothing = Workload.build(
            idle, data_dir=settings.data_dir, allowed_packages=("benchmarks",)
        ).init_state()

        def fleet(spec: WorkloadSpec, start: MetaState, n_workers: int) -> Callable[[], float]:
            server = RedisServer()
            stack.callback(server.stop)
            return stack.enter_context(
                fleet_step(settings, server.url, spec, start, n_workers=n_workers)
            )

        found: dict[str, dict[str, float]] = {}
        if options.only != "throughput":
            rows = {"8 no-op shards, 2 workers": fleet(idle, nothing, 2)}
            found |= measure(rows, FIXED_REPEATS * options.repeats)
        if options.only != "fixed":
            rows = {
                "MAML, bare core": bare_step(settings, busy, state),
                "MAML, 2 bare cores at once": stack.enter_context(bare_cores(settings, 2)),
                "MAML, 1 worker": fleet(busy, state, 1),
                "MAML, 2 workers": fleet(busy, state, 2),
            }
            found |= measure(rows, options.repeats)
    facts: dict[str, Any] = machine()
    print("command:", "python -m benchmarks.engine", *sys.argv[1:])
    print("machine:", ", ".join(f"{key} {value}" for key, value in facts.items()))
    for name, row in found.items():
        print(
            f"  {name:26s} {row['median_ms']:8.1f} ms   "
            f"({row['min_ms']:.1f} to {row['max_ms']:.1f})"
        )
    if options.only != "fixed":
        bare, both, one, two = (
            found[f"MAML, {n}"]["median_ms"]
            for n in ("bare core", "2 bare cores at once", "1 worker", "2 workers")
        )
        print(f"  1 worker / bare core       {bare / one:8.2f}")
        print(f"  2 bare cores / twice 1     {bare / both:8.2f}")
        print(f"  2 workers / twice 1 worker {one / two / 2:8.2f}")
        print(f"  2 workers / 2 bare cores   {both / two / 2:8.2f}")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
