"""Many workers in one process without Celery; each takes messages and runs the real job code.

    python -m benchmarks.simulated_workers NAME

Each worker is a thread with its own connections. It pops Celery's messages from the queue, and
``InnerLoopRunner``, which Celery's task also calls, does the rest: ledger, signatures, tensors. A
number on a line of standard input sets the number of workers and is echoed when done; the end of
input stops them. Settings come from the environment.
"""

import base64
import json
import os
import socket
import sys
import threading
from typing import Any, cast

from metafleet.contracts.connections import connect
from metafleet.contracts.fingerprint import fingerprint_text
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.keys import queue_list, queue_of
from metafleet.contracts.presence import BEAT_INTERVAL_S, WorkerInfo, announce, withdraw
from metafleet.contracts.settings import Settings
from metafleet.contracts.version import code_version
from metafleet.workers.inner_loop import InnerLoopRunner

QUEUE = queue_of("cpu")
_POP_TIMEOUT_S = 1


def job_of(message: bytes) -> Any:
    """Read the task's single argument from a Celery message, protocol 2, as kombu stores it."""
    args, _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    return args[0]


class SimulatedWorker:
    """One worker: a thread that runs jobs until ``stop``."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._client = connect(str(settings.broker_url))
        self._runner = InnerLoopRunner(settings)
        self._queue_list = queue_list(QUEUE, settings.signing_key)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.info = WorkerInfo(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            device="cpu",
            queues=(QUEUE,),
            protocol=PROTOCOL_VERSION,
            version=code_version(),
            fingerprint=fingerprint_text("cpu"),
            host_id=HostCache(settings.host_cache_dir).host_id,
        ).with_proof(settings.signing_key)
        self._thread.start()

    def stop(self) -> None:
        """Accept no further jobs."""
        self._ended.set()

    def join(self) -> None:
        """Wait for the current job."""
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.is_set():
            popped = self._client.brpop([self._queue_list], timeout=_POP_TIMEOUT_S)
            if popped is not None:
                self._runner.run(job_of(cast(tuple[bytes, bytes], popped)[1]))


class SimulatedHost:
    """The workers of this process; one thread sends heartbeats for all of them."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._client = connect(str(settings.broker_url))
        self._workers: list[SimulatedWorker] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._beat, name="presence", daemon=True).start()

    def resize(self, n_workers: int) -> None:
        """Start or stop workers until there are ``n_workers``, and announce them to the fleet."""
        with self._lock:
            while len(self._workers) < n_workers:
                name = f"{self._name}-{len(self._workers)}"
                self._workers.append(SimulatedWorker(self._settings, name))
            leaving, self._workers = self._workers[n_workers:], self._workers[:n_workers]
        for worker in leaving:
            worker.stop()
        for worker in leaving:
            worker.join()
            withdraw(self._client, worker.info.name)
        self._announce()

    def _announce(self) -> None:
        with self._lock:
            for worker in self._workers:
                announce(self._client, worker.info)

    def _beat(self) -> None:
        ended = threading.Event()
        while not ended.wait(BEAT_INTERVAL_S):
            self._announce()


def main() -> None:
    """Follow the commands on standard input."""
    host = SimulatedHost(Settings.load(), sys.argv[1])
    for line in sys.stdin:
        host.resize(int(line))
        print(line, end="", flush=True)


if __name__ == "__main__":
    main()
