"""Transfer tensors between two hosts, directly and through Redis, compared with a TCP stream.

    sudo python -m benchmarks.two_hosts [--gbit 10] [--mb 50] [--repeats 7] [--json FILE]

The second host is a network namespace of this one with two workers, at the other end of a virtual
cable of so many Gbit/s (0: unlimited), so both hosts share this machine's processors. A step sends
the state once, because a host downloads it only once, and each worker returns a sum. Needs Linux,
root, and the ip and tc commands.
"""

import argparse
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.data_plane import N_WORKERS, machine, measure, spec_of
from benchmarks.state_shaped import make_params
from metafleet.contracts.connections import connect
from metafleet.contracts.presence import list_alive
from metafleet.contracts.settings import Settings, child_environment
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.params import MetaState
from tests.fleet import ROOT, wait_until
from tests.redis_server import PASSWORD, RedisServer

SPACE = "metafleet-b"
HERE, THERE = "10.213.77.1", "10.213.77.2"
OPTIONS = FleetOptions(
    episodes_per_job=1, device="cpu", is_strict=True, max_attempts=3, step_deadline_s=120.0
)
ECHO = """
import socket, sys
host, n_bytes, n_back = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.create_server((host, 7001)) as listener:
    stream, _ = listener.accept()
    data = bytearray(n_bytes)
    while True:
        view = memoryview(data)
        while view:
            n = stream.recv_into(view)
            if not n:
                sys.exit()
            view = view[n:]
        for _ in range(n_back):
            stream.sendall(data)
"""


def run(command: str) -> None:
    """Run a system command."""
    subprocess.run(command.split(), check=True)


@contextmanager
def second_host(gbit: float) -> Iterator[None]:
    """Create the namespace and the virtual cable."""
    run(f"ip netns add {SPACE}")
    try:
        run("ip link add mfa type veth peer name mfb")
        run(f"ip link set mfb netns {SPACE}")
        for where, device, address in (("", "mfa", HERE), (SPACE, "mfb", THERE)):
            inside = f"ip netns exec {where} " if where else ""
            run(f"{inside}ip addr add {address}/24 dev {device}")
            run(f"{inside}ip link set {device} up")
            if gbit:
                shape = f"tbf rate {gbit:g}gbit burst 4mb latency 50ms"
                run(f"{inside}tc qdisc add dev {device} root {shape}")
        run(f"ip netns exec {SPACE} ip link set lo up")
        yield
    finally:
        run(f"ip netns del {SPACE}")


@contextmanager
def process_there(*command: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a Python process in the namespace."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", SPACE, sys.executable, *command],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def our_step(home: Path, n_bytes: int, *, direct: str) -> Iterator[Callable[[], float]]:
    """Start two workers there; ``direct``: our address for tensors, or "" for Redis."""
    home.mkdir()
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    server = RedisServer("--bind", HERE, "127.0.0.1")
    url = f"redis://:{PASSWORD}@{HERE}:{server.port}/0"
    settings = replace(
        Settings.load({"METAFLEET_HOME": str(home)}),
        broker_url=url,
        blobs_url=url,
        signing_key="benchmark-key",
        device="cpu",
        allowed_packages=("benchmarks",),
        host_cache_dir=memory / "there",
    )
    worker = (
        "-m",
        "celery",
        "-A",
        "metafleet.workers.app",
        "worker",
        "--pool",
        "solo",
        "-Q",
        "inner.cpu",
    )
    with ExitStack() as stack:
        stack.callback(server.stop)
        stack.callback(shutil.rmtree, memory)
        for index in range(N_WORKERS):
            arguments = (*worker, "-n", f"w{index}@there", "--without-gossip", "--without-mingle")
            environment = child_environment(settings)
            stack.enter_context(process_there(*arguments, environment=environment))
        with connect(url) as client:
            wait_until(
                lambda: len(list_alive(client, "inner.cpu")) == N_WORKERS, "workers there", 60
            )
        epochs, steps = itertools.count(1), itertools.count(1)
        dispatcher = FleetDispatcher(
            replace(settings, host_cache_dir=memory / "here", direct_address=direct),
            "hosts",
            options=OPTIONS,
            next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
            notify=print,
        )
        stack.callback(dispatcher.close)
        spec, params = spec_of(settings, n_bytes), make_params(n_bytes, seed=0)

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
            dispatcher.run_step(request)
            return time.perf_counter() - started_s

        yield step


@contextmanager
def tcp_step(n_bytes: int) -> Iterator[Callable[[], float]]:
    """Send the same number of bytes there and back over one bare TCP stream."""
    with process_there("-c", ECHO, THERE, str(n_bytes), str(N_WORKERS)):
        found: list[socket.socket] = []

        def connects() -> bool:
            try:
                found.append(socket.create_connection((THERE, 7001), 1))
            except OSError:
                return False
            return True

        wait_until(connects, "the other end of the stream")
        (stream,), data = found, bytearray(n_bytes)

        def step() -> float:
            started_s = time.perf_counter()
            stream.sendall(data)
            for _ in range(N_WORKERS):
                view = memoryview(data)
                while view:
                    view = view[stream.recv_into(view) :]
            return time.perf_counter() - started_s

        with stream:
            stream.settimeout(60)
            yield step


def main() -> None:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gbit", type=float, default=10.0)
    parser.add_argument("--mb", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts, n_bytes = machine(), options.mb * 1_000_000
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(second_host(options.gbit))
        rows = {
            "directly": stack.enter_context(our_step(folder / "direct", n_bytes, direct=HERE)),
            "through Redis": stack.enter_context(our_step(folder / "redis", n_bytes, direct="")),
            "one TCP stream": stack.enter_context(tcp_step(n_bytes)),
        }
        found = measure(options.repeats, rows)
    print("command:", "python -m benchmarks.two_hosts", *sys.argv[1:])
    print("machine:", ", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{options.mb} MB there and back from {N_WORKERS} workers, {options.gbit:g} Gbit/s:")
    wire_ms = found["one TCP stream"]["median_ms"]
    for name, row in found.items():
        print(
            f"  {name:16s} {row['median_ms']:8.1f} ms   ({row['min_ms']:.1f} to "
            f"{row['max_ms']:.1f})   {wire_ms / row['median_ms']:.2f} of the stream"
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
