"""Real Celery worker processes for tests, and the settings that lead to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import queue_list
from metafleet.contracts.presence import list_workers
from metafleet.contracts.settings import Settings, child_environment
from tests.forks import Fork, run_celery
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 60.0
MEASURES_COVERAGE = "COVERAGE_PROCESS_CONFIG" in os.environ


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Poll ``condition``; fail naming ``what`` when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain: {what}")
        time.sleep(0.02)


class WorkerProcess:
    """One ``celery worker`` process with the solo pool.

    Args:
        settings: of the worker.
        name: of the worker.
        arguments: further arguments of ``celery worker``.
        environment: further variables.
        as_command: start it as people do. Otherwise it is a fork, which starts at once, unless
            ``environment`` has variables that Python reads when it starts.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        *arguments: str,
        environment: Mapping[str, str],
        as_command: bool = False,
    ) -> None:
        self.name = name
        self.log = settings.home / f"{name}.log"
        variables = {**child_environment(settings), **environment}
        command = ["-A", "metafleet.workers.app", "worker", "--pool", "solo", "-n", f"{name}@test"]
        command += ["-Q", "inner.cpu", "--without-gossip", "--without-mingle"]
        command += ["--loglevel", "INFO", *arguments]
        self.process: subprocess.Popen[bytes] | Fork
        is_for_python = any(not variable.startswith("METAFLEET_") for variable in environment)
        if as_command or is_for_python or MEASURES_COVERAGE:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "celery", *command],
                    env=variables,
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        else:
            self.process = Fork(run_celery, command, environment=variables, log=self.log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            if MEASURES_COVERAGE:  # a killed process writes none
                self.send(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(20)
            self.kill()


class Fleet:
    """Settings with a Redis of their own, and the workers started on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workers: list[WorkerProcess] = []

    def start(
        self,
        n_workers: int,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        as_command: bool = False,
    ) -> list[WorkerProcess]:
        """Start workers and wait until each has given a sign of life."""
        first = len(self.workers)
        started = [
            WorkerProcess(
                self.settings,
                f"cpu{first + i}",
                *arguments,
                environment=environment or {},
                as_command=as_command,
            )
            for i in range(n_workers)
        ]
        self.workers += started
        names = {f"{worker.name}@test" for worker in started}
        try:
            wait_until(lambda: names <= self.alive(), f"workers {names}", READY_TIMEOUT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{started[0].log.read_text()[-3000:]}") from error
        return started

    def alive(self) -> set[str]:
        with connect(str(self.settings.broker_url)) as client:
            return {worker.name for worker in list_workers(client) if worker.is_alive}

    @property
    def queue_list(self) -> str:
        """The Redis list that its CPU workers wait at."""
        return queue_list("inner.cpu", self.settings.signing_key)

    def n_waiting(self) -> int:
        """Count the workers that are blocked on the queue: each is handed the next message."""
        with connect(str(self.settings.broker_url)) as client:
            return sum(c["cmd"] == "brpop" and "b" in c["flags"] for c in client.client_list())

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


@contextmanager
def open_fleet(home: Path, url: str) -> Iterator[Fleet]:
    home.mkdir(parents=True, exist_ok=True)
    settings = replace(
        Settings.load({"METAFLEET_HOME": str(home)}),
        broker_url=url,
        blobs_url=url,
        signing_key="test-key",
        device="cpu",
        host_cache_dir=home / "host-cache",
    )
    fleet = Fleet(settings)
    try:
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    """A fleet without workers yet, on a Redis of its own that the test may break."""
    with open_fleet(tmp_path / "home", redis_server.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def standing_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of two workers for tests that break nothing."""
    server = RedisServer()
    try:
        with open_fleet(tmp_path_factory.mktemp("fleet") / "home", server.url) as opened:
            opened.start(2)
            yield opened
    finally:
        server.stop()
