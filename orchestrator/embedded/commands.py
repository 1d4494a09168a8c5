"""The processes of a stack: their command lines, configurations and environments."""

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import metafleet
from metafleet.contracts.settings import Settings, child_environment
from metafleet.orchestrator.embedded.child import ChildSpec
from metafleet.orchestrator.embedded.server_binary import ServerBinary

HOST = "127.0.0.1"
IMPORT_ROOT = Path(metafleet.__file__).parent.parent
"""The folder from which metafleet is imported. Children start here, so that no folder of the user
named ``metafleet`` can shadow it."""


@dataclass(frozen=True, slots=True)
class StackSecrets:
    """Secrets of this stack's processes."""

    password: str = field(repr=False)
    signing_key: str = field(repr=False)
    flower_password: str = field(repr=False)


def stack_settings(settings: Settings, port: int, secrets: StackSecrets) -> Settings:
    """Return settings for a stack: messages and tensors in two databases of one server."""
    # TCP, not a Unix socket: Celery and redis-py spell those URLs differently, and a socket's path
    # must stay under 104 bytes
    server = f"redis://:{secrets.password}@{HOST}:{port}"
    return replace(
        settings,
        broker_url=f"{server}/0",
        blobs_url=f"{server}/1",
        signing_key=secrets.signing_key,
    )


def server_spec(
    binary: ServerBinary, settings: Settings, *, port: int, password: str, logs_dir: Path
) -> ChildSpec:
    """Describe the server; it reads its configuration, with the password, from standard input."""
    configuration = "\n".join(
        (
            f"bind {HOST}",
            f"port {port}",
            f"requirepass {password}",
            "protected-mode yes",
            "daemonize no",
            'save ""',  # the ledger survives an empty server; a dump would become stale
            "appendonly no",
            "maxmemory-policy noeviction",
            "",
        )
    )
    return ChildSpec(
        label="redis",
        argv=(str(binary.path), "-"),
        environment=child_environment(settings),
        log_path=logs_dir / "redis.log",
        folder=logs_dir,
        stdin=configuration.encode(),
    )


def worker_spec(index: int, settings: Settings, logs_dir: Path) -> ChildSpec:
    """Describe one CPU worker: a process with the ``solo`` pool, which imports torch once."""
    name = f"cpu{index}"
    # a machine with a GPU must not turn the workers of a laptop's CPU queue into GPU workers
    cpu_settings = replace(settings, device="cpu")
    return ChildSpec(
        label=f"worker {name}",
        argv=(sys.executable, "-m", "metafleet.workers", "--name", name, "--concurrency", "1"),
        environment=child_environment(cpu_settings),
        log_path=logs_dir / f"worker-{name}.log",
        folder=IMPORT_ROOT,
    )


def lone_worker_spec(
    settings: Settings, *, name: str | None, concurrency: int | None, pool: str | None, folder: Path
) -> ChildSpec:
    """Describe a worker process that writes to this terminal.

    An option that is None gets a default that depends on the worker's device. When the worker
    imports packages, it searches ``folder`` last. So the user's packages in ``folder`` cannot
    replace installed packages.
    """
    chosen = {"--name": name, "--concurrency": concurrency, "--pool": pool}
    given = [word for option, value in chosen.items() if value for word in (option, str(value))]
    return ChildSpec(
        label="the worker",
        argv=(sys.executable, "-m", "metafleet.workers", "--packages-in", str(folder), *given),
        environment=_away_from(folder, child_environment(settings)),
        log_path=None,
        folder=IMPORT_ROOT,
    )


def _away_from(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Resolve relative PYTHONPATH entries against ``folder``: the process starts elsewhere."""
    if not (path := environment.get("PYTHONPATH")):
        return environment
    entries = [str(folder / entry) for entry in path.split(os.pathsep)]
    return environment | {"PYTHONPATH": os.pathsep.join(entries)}


def flower_spec(
    settings: Settings, *, port: int, secrets: StackSecrets, logs_dir: Path
) -> ChildSpec:
    """Describe Flower: read-only, on this machine only, with its password in the environment."""
    argv = (
        sys.executable,
        "-m",
        "celery",
        "-A",
        "metafleet.workers.app",
        "flower",
        f"--address={HOST}",
        f"--port={port}",
        "--read-only=True",
        "--max-tasks=5000",
        "--max-workers=500",
        "--purge-offline-workers=300",
        # workers send events anyway; asking for them needs remote control, which stays off
        "--enable-events=False",
        "--tasks-columns=uuid,state,args,received,runtime,worker",
    )
    basic_auth = {"FLOWER_BASIC_AUTH": f"metafleet:{secrets.flower_password}"}
    return ChildSpec(
        label="flower",
        argv=argv,
        environment=child_environment(settings) | basic_auth,
        log_path=logs_dir / "flower.log",
        folder=IMPORT_ROOT,
    )
