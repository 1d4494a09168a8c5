"""Presence of workers: each sends a heartbeat every two seconds, timed by Redis's clock."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import Final, cast

from pydantic import TypeAdapter

from metafleet.contracts.connections import Client
from metafleet.contracts.keys import WORKERS_INFO, WORKERS_SEEN
from metafleet.contracts.lua_scripts import lua_script
from metafleet.contracts.milestones import Milestones
from metafleet.contracts.signing_key import is_proof, prove_key

log = logging.getLogger(__name__)

BEAT_INTERVAL_S: Final = 2.0
ALIVE_WITHIN_S: Final = 6.0
_FORGET_AFTER_S: Final = 600
_CLOCKS_PART_S: Final = 60
"""How far the clock of a Redis server may be behind that of its predecessor after a failover."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One Celery worker.

    Attributes:
        name: the worker's Celery node name.
        host, pid: the worker's host and process id.
        device: the worker's compute device, for example "cpu".
        queues: the Celery queues to which the worker listens.
        protocol: version of the worker's message protocol.
        version: the worker's metafleet version.
        fingerprint: the worker's numerics fingerprint.
        host_id: id of the memory that the worker shares with other processes, see ``HostCache``; ""
            if the worker shares no memory.
        last_seen_s: seconds since the worker's last heartbeat.
        processes: number of jobs that the worker computes at the same time.
        key_proof: proof that the worker has the signing key, see ``holds_key``; "" if the worker
            has no key.
        idle_s: seconds since the worker last had a job; 0 while it computes.
    """

    name: str
    host: str
    pid: int
    device: str
    queues: tuple[str, ...]
    protocol: int
    version: str
    fingerprint: str
    host_id: str = ""
    last_seen_s: float = 0.0
    processes: int = 1
    key_proof: str = ""
    idle_s: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it sent a heartbeat within the last few seconds."""
        return self.last_seen_s <= ALIVE_WITHIN_S

    def with_proof(self, signing_key: str) -> "WorkerInfo":
        """Return this worker with a proof that it has ``signing_key``, or that it has none."""
        return replace(self, key_proof=prove_key(signing_key, self._identity))

    def holds_key(self, signing_key: str) -> bool:
        """Return whether this worker has ``signing_key``; for "", whether it has none."""
        return is_proof(self.key_proof, signing_key, self._identity)

    @property
    def _identity(self) -> str:
        return f"{self.name} {self.host} {self.pid}"


_INFO: Final = TypeAdapter(WorkerInfo)
_LONGEST_INFO_BYTES: Final = 2**16


def announce(client: Client, worker: WorkerInfo) -> None:
    """Send a heartbeat, and remove workers that sent none for ten minutes."""
    info = asdict(worker)
    del info["last_seen_s"]
    script = lua_script("beat", FORGET_AFTER_S=_FORGET_AFTER_S, CLOCKS_PART_S=_CLOCKS_PART_S)
    client.eval(script, 2, WORKERS_SEEN, WORKERS_INFO, worker.name, json.dumps(info))


def withdraw(client: Client, name: str) -> None:
    """Remove this worker from the list of workers that are alive."""
    client.zrem(WORKERS_SEEN, name)
    client.hdel(WORKERS_INFO, name)


def list_workers(client: Client) -> list[WorkerInfo]:
    """List the workers that sent a heartbeat within ten minutes, by name."""
    seconds, microseconds = client.time()
    now_s = seconds + microseconds / 1e6
    # skip workers that are only in the hash, and those with a heartbeat in the future
    scores = cast(
        list[tuple[bytes, float]],
        client.zrange(WORKERS_SEEN, "-inf", now_s + _CLOCKS_PART_S, byscore=True, withscores=True),
    )
    names = sorted(name for name, _ in scores)
    texts = cast(list[bytes | None], client.hmget(WORKERS_INFO, names)) if names else []
    seen_s = {name: max(0.0, now_s - score) for name, score in scores}
    workers = (
        _read_info(name, text, seen_s[name])
        for name, text in zip(names, texts, strict=True)
        if text is not None
    )
    return [worker for worker in workers if worker is not None]


_NOT_COUNTED: Final = Milestones()
"""By name, because the list is read every two seconds."""


def _read_info(name: bytes, text: bytes, last_seen_s: float) -> WorkerInfo | None:
    """Parse a worker's info, which may come from another version; None if it is not valid."""
    try:
        if len(text) > _LONGEST_INFO_BYTES:
            raise ValueError(f"{len(text)} bytes")
        info = _INFO.validate_json(text, strict=True)
        if info.name.encode() != name:
            raise ValueError(f"under the name {name!r}")
        return replace(info, last_seen_s=last_seen_s, processes=max(1, info.processes))
    except ValueError as error:
        if _NOT_COUNTED.count(repr(name)) == 1:
            why = str(error).replace("\n", " ")
            log.warning("a worker that says %.200r of itself is not counted: %.300s", text, why)
        return None


def list_alive(client: Client, queue: str) -> list[WorkerInfo]:
    """List the workers of any version that are alive and listen to ``queue``."""
    return [w for w in list_workers(client) if w.is_alive and queue in w.queues]
