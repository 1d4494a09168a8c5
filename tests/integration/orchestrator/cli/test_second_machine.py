"""The tutorial on a second machine, each of its terminals in a shell of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as redis_errors

from metafleet.contracts.connections import connect
from metafleet.contracts.presence import list_workers
from metafleet.orchestrator.embedded.server_binary import find_server
from tests.fleet import wait_until
from tests.page_blocks import blocks_of
from tests.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "tutorials" / "second-machine.md"
VARIABLES = ("METAFLEET_BROKER_URL", "METAFLEET_SIGNING_KEY")
Shell = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Start commands in a shell of a machine, which is a home folder here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").symlink_to(find_server().path)
    path = os.pathsep.join(map(str, (programs, Path(sys.executable).parent, os.environ["PATH"])))
    others = {name: it for name, it in os.environ.items() if not name.startswith("METAFLEET_")}
    started: list[subprocess.Popen[str]] = []

    def start(machine: str, text: str, **variables: str) -> subprocess.Popen[str]:
        home = tmp_path / machine
        if not home.exists():
            home.mkdir()
            (home / "experiments").symlink_to(REPOSITORY / "experiments")
        process = subprocess.Popen(
            ["bash", "-e", "-c", text],
            cwd=home,
            env=others | {"HOME": str(home), "PATH": path} | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(home / f"{len(started)}.log").open("wb"),
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def test_a_worker_of_a_second_machine_joins_and_is_killed(shell: Shell, port: int) -> None:
    values = {"PASSWORD": "of-the-page", "first-machine": "127.0.0.1", "6380": str(port)}
    blocks = [block.text for block in blocks_of(PAGE)]
    for word, value in values.items():
        assert any(word in block for block in blocks), f"the page no longer has {word}"
        blocks = [block.replace(word, value) for block in blocks]
    redis, first_worker, run, second_machine = blocks

    shell("first", redis)
    worker = shell("first", first_worker)
    assert worker.stdout is not None
    url = f"redis://:{values['PASSWORD']}@127.0.0.1:{port}/0"
    shared = dict(zip(VARIABLES, (url, worker.stdout.readline().strip()), strict=True))

    def told(command: str) -> Any:
        text, _ = shell("first", f"metafleet {command} --json", **shared).communicate(timeout=60)
        return json.loads(text)

    def jobs() -> dict[str, int]:
        """Return the number of jobs that each process computed."""
        found: dict[str, int] = told("runs show latest")["workers"]
        return found

    def workers() -> set[str]:
        with connect(url) as client, suppress(redis_errors.ConnectionError):
            return {worker.name for worker in list_workers(client)}
        return set()

    wait_until(workers, "the worker of the first machine", 90)
    shell("first", run, **shared)
    wait_until(lambda: told("runs list") and len(jobs()) == 2, "jobs of both processes", 60)
    at_first = jobs()
    machine = shell("second", second_machine, **shared)
    wait_until(lambda: len(workers()) == 2, "the worker of the second machine", 90)
    assert {worker["name"] for worker in told("workers")} == workers()
    wait_until(lambda: jobs().keys() - at_first, "a job of the second machine", 60)
    os.killpg(machine.pid, signal.SIGKILL)
    before = sum(jobs().values())
    wait_until(lambda: sum(jobs().values()) > before + 20, "the run goes on", 60)
