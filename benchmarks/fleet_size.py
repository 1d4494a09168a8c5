"""The cost of a fleet of 1 to 256 workers: step time, and CPU time by component.

    python -m benchmarks.fleet_size [--workers 1,2,4,...,256] [--repeats 9] [--json FILE]
                                    [--plot FILE]

Simulated workers (``benchmarks.simulated_workers``: the real protocol, a learner that computes
nothing) run in four separate processes, with a real dispatcher and a real Redis. A step has one
shard for each worker. Rows: sums of 48 kB through the host's memory; sums of 1 MB through the
host's memory; sums of 1 MB through Redis, as from other hosts. CPU time is measured separately for
the orchestrator (this process), Redis and the workers, in milliseconds per job.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.data_plane import machine, spec_of
from benchmarks.state_shaped import make_params
from metafleet.contracts.settings import Settings, child_environment
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.step import StepOutcome, StepRequest
from metafleet.params import MetaState
from tests.fleet import ROOT
from tests.redis_server import RedisServer

N_PROCESSES = 4
WARM_UPS = 2
LEAST_JOBS = 64
"""Minimum number of jobs in a row: the system counts CPU time in hundredths of a second."""
SEEN_WITHIN_S = 20.0
OPTIONS = FleetOptions(
    episodes_per_job=1, device="cpu", is_strict=True, max_attempts=3, step_deadline_s=120.0
)


@dataclass(frozen=True, slots=True)
class Plane:
    """Size of the sums, and their route."""

    name: str
    n_bytes: int
    is_apart: bool
    """Whether workers share no memory with the orchestrator."""


PLANES = (
    Plane("48 kB, memory", 48_000, is_apart=False),
    Plane("1 MB, memory", 1_000_000, is_apart=False),
    Plane("1 MB, Redis", 1_000_000, is_apart=True),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Results for one fleet size: milliseconds per step, and CPU milliseconds per job."""

    plane: str
    workers: int
    median_ms: float
    min_ms: float
    max_ms: float
    orchestrator_ms: float
    redis_ms: float
    workers_ms: float
    busy: float
    """Share of all cores' time that orchestrator, Redis and workers used."""
    retries: int

    def __str__(self) -> str:
        return (
            f"  {self.plane:14s} {self.workers:5d} {self.median_ms:9.1f} "
            f"({self.min_ms:.0f} to {self.max_ms:.0f})".ljust(50)
            + f"{self.workers / self.median_ms * 1e3:8.0f} {self.orchestrator_ms:8.2f} "
            f"{self.redis_ms:8.2f} {self.workers_ms:8.2f} {self.busy:6.0%}"
        )


HEADER = (
    f"  {'sums':14s} {'fleet':>5s} {'ms a step':>9s}".ljust(50)
    + f"{'jobs/s':>8s} {'orch.':>8s} {'Redis':>8s} {'workers':>8s} {'busy':>6s}"
)


class SimulatedFleet:
    """Processes full of simulated workers."""

    def __init__(self, settings: Settings) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.simulated_workers", f"host{i}"],
                env=child_environment(settings),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(N_PROCESSES)
        ]

    def resize(self, n_workers: int) -> None:
        """Spread ``n_workers`` over the processes."""
        for index, process in enumerate(self.processes):
            assert process.stdin is not None
            print((n_workers + N_PROCESSES - 1 - index) // N_PROCESSES, file=process.stdin)
            process.stdin.flush()
        for process in self.processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit("a process of simulated workers ended; see its traceback above")

    def cpu_s(self) -> float:
        """Return the CPU time of all workers so far."""
        return sum(_cpu_s(process.pid) for process in self.processes)

    def stop(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def dispatching(
    settings: Settings, plane: Plane
) -> Iterator[Callable[[int], tuple[StepOutcome, float]]]:
    """Open a dispatcher; yield a function of the number of shards that runs and times a step."""
    epochs, steps = itertools.count(1), itertools.count(1)
    own = replace(settings, host_cache_dir=settings.host_cache_dir / "orchestrator")
    dispatcher = FleetDispatcher(
        own if plane.is_apart else settings,
        f"size-{plane.n_bytes}-{plane.is_apart}",
        options=OPTIONS,
        next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
        notify=print,
    )
    spec, params = spec_of(settings, plane.n_bytes), make_params(plane.n_bytes, seed=0)

    def step(n_shards: int) -> tuple[StepOutcome, float]:
        number = next(steps)
        params["layer00.weight"][0] += 1  # another version every time
        request = StepRequest(
            stream="train",
            step=number,
            kind="gradient",
            split="meta_train",
            episode_step=number,
            n_episodes=n_shards,
            spec=spec,
            state=MetaState(params, {}),
        )
        started_s = time.perf_counter()
        outcome = dispatcher.run_step(request)
        return outcome, time.perf_counter() - started_s

    try:
        yield step
    finally:
        dispatcher.close()


def measure(
    step: Callable[[int], tuple[StepOutcome, float]],
    plane: Plane,
    fleet: SimulatedFleet,
    redis_pid: int,
    *,
    n_workers: int,
    repeats: int,
) -> Row:
    """Measure steps with one shard per worker, once the orchestrator sees all workers."""
    deadline_s = time.monotonic() + SEEN_WITHIN_S
    warm_ups = 0
    while warm_ups < WARM_UPS:
        outcome, _ = step(n_workers)
        warm_ups += outcome.workers_alive == n_workers
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{outcome.workers_alive} workers are alive, not {n_workers}")
    before = (time.process_time(), _cpu_s(redis_pid), fleet.cpu_s(), time.perf_counter())
    n_steps = max(repeats, LEAST_JOBS // n_workers)
    found = [step(n_workers) for _ in range(n_steps)]
    after = (time.process_time(), _cpu_s(redis_pid), fleet.cpu_s(), time.perf_counter())
    orchestrator_s, redis_s, workers_s, wall_s = (b - a for a, b in zip(before, after, strict=True))
    ms, jobs = [1e3 * spent_s for _, spent_s in found], n_steps * n_workers
    return Row(
        plane=plane.name,
        workers=n_workers,
        median_ms=statistics.median(ms),
        min_ms=min(ms),
        max_ms=max(ms),
        orchestrator_ms=1e3 * orchestrator_s / jobs,
        redis_ms=1e3 * redis_s / jobs,
        workers_ms=1e3 * workers_s / jobs,
        busy=(orchestrator_s + redis_s + workers_s) / wall_s / (psutil.cpu_count() or 1),
        retries=sum(outcome.retries for outcome, _ in found),
    )


def limits(rows: list[Row]) -> Iterator[str]:
    """Yield the jobs per second that each component could handle on one core, for each plane."""
    for plane in dict.fromkeys(row.plane for row in rows):
        row = max((row for row in rows if row.plane == plane), key=lambda row: row.workers)
        yield (
            f"  {plane:14s} one core of the orchestrator carries {1e3 / row.orchestrator_ms:.0f} "
            f"jobs a second, one Redis {1e3 / row.redis_ms:.0f}; "
            f"here {psutil.cpu_count()} cores were {row.busy:.0%} busy"
        )


def plot(rows: list[Row], path: Path) -> None:
    """Draw step time and the orchestrator's CPU over the size of the fleet."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - needed only for plots

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for plane in dict.fromkeys(row.plane for row in rows):
        own = [row for row in rows if row.plane == plane]
        sizes = [row.workers for row in own]
        left.plot(sizes, [row.median_ms for row in own], "o-", label=plane)
        right.plot(sizes, [row.orchestrator_ms for row in own], "o-", label=plane)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel("workers; shards in a step")
        axes.grid(alpha=0.3)
    left.set_yscale("log")
    left.set_title("an outer step, ms")
    right.set_ylim(bottom=0)
    right.set_title("the orchestrator's CPU for each job, ms")
    left.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and write the requested files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4,8,16,32,64,128,256")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.workers.split(",")]
    torch.set_num_threads(1)
    facts: dict[str, Any] = machine()
    rows: list[Row] = []
    print("command:", "python -m benchmarks.fleet_size", *sys.argv[1:])
    print("machine:", ", ".join(f"{key} {value}" for key, value in facts.items()))
    print(HEADER, flush=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        server = RedisServer()
        stack.callback(server.stop)
        settings = replace(
            Settings.load({"METAFLEET_HOME": str(home)}),
            broker_url=server.url,
            blobs_url=server.url,
            signing_key="benchmark-key",
            device="cpu",
            allowed_packages=("benchmarks",),
            host_cache_dir=memory,
        )
        fleet = SimulatedFleet(settings)
        stack.callback(fleet.stop)
        with server.client() as client:
            redis_pid = int(client.info("server")["process_id"])
        fleet.resize(sizes[0])  # announced before the first dispatcher looks for workers
        steps = {plane: stack.enter_context(dispatching(settings, plane)) for plane in PLANES}
        for n_workers in sizes:
            fleet.resize(n_workers)
            for plane, step in steps.items():
                row = measure(
                    step, plane, fleet, redis_pid, n_workers=n_workers, repeats=options.repeats
                )
                rows.append(row)
                print(row, flush=True)
    rows.sort(key=lambda row: [plane.name for plane in PLANES].index(row.plane))
    print(*limits(rows), sep="\n")
    if options.plot:
        plot(rows, options.plot)
    if options.json:
        result = {"machine": facts, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
