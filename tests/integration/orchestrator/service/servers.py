"""`metafleet serve` in processes that a test signals and kills; and queued runs for them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from metafleet.contracts.settings import Settings, child_environment
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.launch import Queueing, create_runs
from tests.fleet import ROOT, wait_until


def queue_run(settings: Settings, experiment: ExperimentConfig, *, priority: int = 0) -> RunRecord:
    queue = Queueing(detached=True, priority=priority)
    with Database.open(settings.database_url) as database:
        (run,) = create_runs(database, settings, experiment, seeds=[experiment.seed], queue=queue)
    return run


def command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", *arguments],
        env=child_environment(settings),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


class ServerProcess:
    """One `metafleet serve --json`, and the events it has printed."""

    def __init__(self, settings: Settings) -> None:
        self.process = command(settings, "serve", "--json", "--max-runs", "1")
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line) | {"heard_s": time.monotonic()})

    def find(self, kind: str, run: RunRecord | None = None) -> dict[str, Any] | None:
        """The newest event of a kind, about a run."""
        found = [
            event
            for event in self.events
            if event["event"] == kind and (run is None or event.get("run_id") == run.id)
        ]
        return found[-1] if found else None

    def await_event(
        self, kind: str, run: RunRecord | None = None, timeout_s: float = 30.0
    ) -> dict[str, Any]:
        try:
            wait_until(lambda: self.find(kind, run), f"event {kind}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; there were {self.events}") from error
        event = self.find(kind, run)
        assert event is not None
        return event

    def owns(self, run: RunRecord) -> bool:
        return f":{self.process.pid}/" in (run.owner or "")

    def executor(self, run: RunRecord) -> psutil.Process:
        """The process that executes a run of this server's."""
        began = [e for e in self.events if e.get("run_id") == run.id and "pid" in e]
        return psutil.Process(began[-1]["pid"])

    def kill(self) -> None:
        """SIGKILL the server; its children die with it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        self._reader.join(5)
        return status


@contextmanager
def serving(settings: Settings, n_servers: int) -> Iterator[list[ServerProcess]]:
    servers = [ServerProcess(settings) for _ in range(n_servers)]
    try:
        for server in servers:
            server.await_event("serving")
        yield servers
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.kill()
