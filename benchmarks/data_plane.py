"""Transfer tensors to two workers and back: by memory, directly, by Redis, with Ray, over TCP.

    python -m benchmarks.data_plane [--mb 50] [--repeats 9] [--json FILE]

One repeat is one outer step of two shards with a learner that computes nothing: the state goes out,
each worker returns a sum of the same size, and (in our rows) the sums are checked and added.
Rows run in turn, so that background load affects all of them. Ray is measured if it is installed.
"""

import argparse
import itertools
import json
import multiprocessing
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.state_shaped import make_params
from metafleet.contracts.settings import Settings
from metafleet.data import registry as datasets
from metafleet.episode import EpisodeShape
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.params import MetaState
from metafleet.reduction import TreeReducer
from metafleet.workload import WorkloadSpec
from tests.fleet import Fleet, open_fleet
from tests.redis_server import RedisServer

N_WORKERS = 2


def median_ms(times_s: list[float]) -> dict[str, float]:
    """Return median, minimum and maximum in milliseconds."""
    ms = [1000 * t for t in times_s]
    return {"median_ms": statistics.median(ms), "min_ms": min(ms), "max_ms": max(ms)}


def spec_of(settings: Settings, n_bytes: int) -> WorkloadSpec:
    """Describe the work: minimal data, and a state of ``n_bytes``."""
    data = {"name": "sinusoid"}
    return WorkloadSpec(
        seed=1,
        data=data,
        data_digest=datasets.open_data(data, settings.data_dir).digest(),
        episodes={"meta_train": EpisodeShape(n_way=0, k_shot=1, n_query=1)},
        model={"name": "mlp", "hidden": [1]},
        learner={"name": "benchmarks.state_shaped:StateShaped", "n_bytes": n_bytes},
    )


@contextmanager
def our_step(
    home: Path, url: str, n_bytes: int, *, apart: bool, direct: str = ""
) -> Iterator[Callable[[], float]]:
    """Start Metafleet workers, and yield a function that runs a step and returns its seconds.

    Args:
        home: folder for their files.
        url: their Redis.
        n_bytes: size of the state and of each sum.
        apart: give the orchestrator a separate host cache, as if it were on another host.
        direct: address at which workers fetch tensors from the orchestrator; "" for Redis.
    """
    with open_fleet(home, url) as opened:
        memory = Path("/dev/shm") / f"metafleet-benchmark-{home.name}"
        settings = replace(opened.settings, allowed_packages=("benchmarks",), host_cache_dir=memory)
        fleet = Fleet(settings)
        seen = replace(settings, direct_address=direct)
        if apart:
            seen = replace(seen, host_cache_dir=memory / "orchestrator")
        options = FleetOptions(
            episodes_per_job=1, device="cpu", is_strict=True, max_attempts=3, step_deadline_s=120.0
        )
        epochs = itertools.count(1)
        try:
            fleet.start(N_WORKERS)
            dispatcher = FleetDispatcher(
                seen,
                home.name,
                options=options,
                next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
                notify=print,
            )
            spec, steps = spec_of(settings, n_bytes), itertools.count(1)
            params = make_params(n_bytes, seed=0)

            def step() -> float:
                number = next(steps)
                params["layer00.weight"][0] += 1  # another version every time
                request = StepRequest(
                    stream="train",
                    step=number,
                    kind="gradient",
                    split="meta_train",
                    episode_step=number,
                    n_episodes=N_WORKERS,
                    spec=spec,
                    state=MetaState(params, {}),
                )
                started_s = time.perf_counter()
                outcome = dispatcher.run_step(request)
                spent_s = time.perf_counter() - started_s
                assert len(outcome.jobs) == N_WORKERS
                return spent_s

            yield step
            dispatcher.close()
        finally:
            fleet.stop()
            shutil.rmtree(memory, ignore_errors=True)


@contextmanager
def ray_step(n_bytes: int) -> Iterator[tuple[Callable[[], float], Callable[[], float]]]:
    """Start two actors; yield a step, and a step that also adds the results."""
    import ray  # noqa: PLC0415 - installed only for this benchmark

    ray.init(num_cpus=N_WORKERS, include_dashboard=False, logging_level="ERROR")

    @ray.remote(num_cpus=1)
    class Actor:
        def __init__(self) -> None:
            self._gradient = {k: t.numpy() for k, t in make_params(n_bytes, seed=1).items()}

        def work(self, state: dict[str, Any]) -> dict[str, Any]:
            assert len(state) == len(self._gradient)
            return self._gradient

    actors = [Actor.remote() for _ in range(N_WORKERS)]
    state = {k: t.numpy() for k, t in make_params(n_bytes, seed=0).items()}

    def step(*, adds: bool) -> float:
        state["layer00.weight"][0] += 1
        started_s = time.perf_counter()
        shared = ray.put(state)
        first, second = ray.get([actor.work.remote(shared) for actor in actors])
        if adds:
            assert {k: a + second[k] for k, a in first.items()}
        return time.perf_counter() - started_s

    yield lambda: step(adds=False), lambda: step(adds=True)
    ray.shutdown()


def _echo(listener: socket.socket, n_bytes: int) -> None:
    """Echo ``n_bytes`` once for each worker, until the peer closes the stream."""
    stream, _ = listener.accept()
    data = memoryview(bytearray(n_bytes))
    while _received(stream, data):
        for _ in range(N_WORKERS):
            stream.sendall(data)


def _received(stream: socket.socket, data: memoryview) -> bool:
    while data:
        n_bytes = stream.recv_into(data)
        if not n_bytes:
            return False
        data = data[n_bytes:]
    return True


@contextmanager
def tcp_step(n_bytes: int) -> Iterator[Callable[[], float]]:
    """Send the bytes of one step between hosts over a bare TCP stream on this host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = multiprocessing.get_context("fork").Process(
            target=_echo, args=(listener, n_bytes), daemon=True
        )
        other.start()
        data = memoryview(bytearray(n_bytes))
        with socket.create_connection(listener.getsockname()) as stream:

            def step() -> float:
                started_s = time.perf_counter()
                stream.sendall(data)
                for _ in range(N_WORKERS):
                    assert _received(stream, data)
                return time.perf_counter() - started_s

            yield step
        other.join()


def reduction(n_bytes: int, repeats: int) -> dict[str, float]:
    """Measure the tree reduction of 16 gradients in memory that the reducer must not change."""
    sums = [make_params(n_bytes, seed=seed) for seed in range(2)]
    n_shards, rates, most = 16, [], 0
    for _ in range(repeats):
        reducer = TreeReducer(n_shards)
        started_s = time.perf_counter()
        for shard in range(n_shards):
            reducer.add(shard, sums[shard % 2], may_change=False)
            most = max(most, reducer.n_alive)
        rates.append(n_shards * n_bytes / (time.perf_counter() - started_s) / 1e9)
    return {
        "median_gb_per_s": statistics.median(rates),
        "min_gb_per_s": min(rates),
        "max_gb_per_s": max(rates),
        "most_gradients_alive": most + 1,  # including the one being added
        "n_shards": n_shards,
    }


def measure(repeats: int, rows: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """Run the rows in turn; the first two turns are warm-ups."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + 2):
        for name, step in rows.items():
            spent_s = step()
            if turn >= 2:
                times[name].append(spent_s)
    return {name: median_ms(spent) for name, spent in times.items()}


def machine() -> dict[str, str]:
    """Describe the machine and the package versions."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = {}
    for package in ("torch", "celery", "redis", "blake3", "ray"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    load = Path("/proc/loadavg").read_text().split()[0]
    cores = str(torch.multiprocessing.cpu_count())
    return {"cpu": model, "cores": cores, "load": load, "python": platform.python_version()} | (
        versions
    )


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    n_bytes = options.mb * 1_000_000
    facts = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer()
        stack.callback(server.stop)
        rows: dict[str, Any] = {
            "ours, through memory": stack.enter_context(
                our_step(folder / "memory", server.url, n_bytes, apart=False)
            )
        }
        second = RedisServer()
        stack.callback(second.stop)
        rows["ours, through Redis"] = stack.enter_context(
            our_step(folder / "redis", second.url, n_bytes, apart=True)
        )
        third = RedisServer()
        stack.callback(third.stop)
        rows["ours, directly"] = stack.enter_context(
            our_step(folder / "direct", third.url, n_bytes, apart=True, direct="127.0.0.1")
        )
        if facts["ray"] != "not installed":
            rows["Ray"], rows["Ray, and adding up"] = stack.enter_context(ray_step(n_bytes))
        # rows between hosts run last, with TCP: slow Redis steps would evict other rows' caches
        slow = {
            "ours, directly": rows.pop("ours, directly"),
            "ours, through Redis": rows.pop("ours, through Redis"),
            "one TCP stream": stack.enter_context(tcp_step(n_bytes)),
        }
        found = measure(options.repeats, rows) | measure(options.repeats, slow)
    added = reduction(n_bytes, options.repeats)
    print("command:", "python -m benchmarks.data_plane", *sys.argv[1:])
    print("machine:", ", ".join(f"{key} {value}" for key, value in facts.items()))
    print(
        f"{options.mb} MB out to {N_WORKERS} workers and back from each, {options.repeats} times:"
    )
    for name, row in found.items():
        print(
            f"  {name:22s} {row['median_ms']:7.1f} ms   "
            f"({row['min_ms']:.1f} to {row['max_ms']:.1f})"
        )
    if "Ray" in found:
        ratio = found["ours, through memory"]["median_ms"] / found["Ray"]["median_ms"]
        print(f"  through memory / Ray   {ratio:7.2f}")
    for way in ("directly", "through Redis"):
        ratio = found["one TCP stream"]["median_ms"] / found[f"ours, {way}"]["median_ms"]
        print(f"  TCP / {way:16s} {ratio:7.2f}")
    print(
        f"reduction: {added['median_gb_per_s']:.2f} GB/s ({added['min_gb_per_s']:.2f} to "
        f"{added['max_gb_per_s']:.2f}), {added['most_gradients_alive']} of "
        f"{added['n_shards']} gradients alive at most"
    )
    if options.json:
        result = {"argv": sys.argv[1:], "machine": facts, "rows": found, "reduction": added}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
