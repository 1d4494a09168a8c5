"""Heartbeats of one Celery worker: in Redis for the orchestrator, in a file for health checks."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import redis

from metafleet.contracts.connections import connect
from metafleet.contracts.presence import BEAT_INTERVAL_S, WorkerInfo, announce, withdraw
from metafleet.workers.idleness import Idleness

log = logging.getLogger(__name__)


class PresenceThread:
    """A thread of the worker's main process that sends a heartbeat every two seconds.

    After each heartbeat that reaches Redis, the thread sets the modification time of the heartbeat
    file. If this time is long ago, the worker has lost the connection to its broker. A health check
    can read the time without starting Python.
    """

    def __init__(
        self,
        url: str,
        worker: WorkerInfo,
        heartbeat_file: Path,
        *,
        idleness: Idleness | None = None,
    ) -> None:
        self._client = connect(url)
        self._worker = worker
        self._idleness = idleness or Idleness()
        self._file = heartbeat_file
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def start(self) -> None:
        """Start sending heartbeats."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeats and remove the worker from Redis."""
        self._ended.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)
        try:
            withdraw(self._client, self._worker.name)
        except redis.RedisError as error:
            log.warning("could not remove this worker from Redis: %s", error)

    def _beat(self) -> None:
        while True:
            try:
                announce(self._client, replace(self._worker, idle_s=self._idleness.look()))
                self._file.touch()
            except (redis.RedisError, OSError) as error:
                log.warning("could not send a heartbeat: %s", error)
            if self._ended.wait(BEAT_INTERVAL_S):
                return
