"""Which workers are there: each says so every two seconds, by Redis's clock."""

import json
import logging
from dataclasses import asdict, dataclass, fields, replace
from typing import Final, cast

from contracts.connections import Client
from contracts.keys import WORKERS_INFO, WORKERS_SEEN
from contracts.signing_key import is_proof, prove_key

log = logging.getLogger(__name__)

BEAT_INTERVAL_S: Final = 2.0
ALIVE_WITHIN_S: Final = 6.0
_FORGET_AFTER_S: Final = 600

_BEAT = f"""
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - {_FORGET_AFTER_S})) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end
redis.call('EXPIRE', KEYS[1], {_FORGET_AFTER_S})
redis.call('EXPIRE', KEYS[2], {_FORGET_AFTER_S})
"""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One Celery worker.

    Attributes:
        name: its Celery node name.
        host, pid: where it runs.
        device: what it computes on, such as "cpu".
        queues: the Celery queues it listens to.
        protocol: its message protocol version.
        version: its metafleet version.
        fingerprint: its numerics fingerprint.
        host_id: the memory it shares with others, see ``HostCache``; "" for none.
        last_seen_s: seconds since its last sign of life.
        processes: how many jobs it computes at a time.
        key_proof: shows that it has the signing key, see ``holds_key``; "" when it has none.
        idle_s: seconds since it last had a job at hand; 0 while it computes.
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
        """True when it was heard of within the last few seconds."""
        return self.last_seen_s <= ALIVE_WITHIN_S

    def with_proof(self, signing_key: str) -> "WorkerInfo":
        """Show that this worker has ``signing_key``, or that it has none."""
        return replace(self, key_proof=prove_key(signing_key, self._identity))

    def holds_key(self, signing_key: str) -> bool:
        """Return whether this worker has ``signing_key``; for "", whether it has none."""
        return is_proof(self.key_proof, signing_key, self._identity)

    @property
    def _identity(self) -> str:
        return f"{self.name} {self.host} {self.pid}"


_ABSENT_IN_OLD: Final = ("last_seen_s", "processes", "key_proof", "idle_s")
_FIELDS: Final = tuple(f.name for f in fields(WorkerInfo) if f.name not in _ABSENT_IN_OLD)


def announce(client: Client, worker: WorkerInfo) -> None:
    """Give a sign of life, and forget workers that gave none for ten minutes."""
    info = asdict(worker)
    del info["last_seen_s"]
    client.eval(_BEAT, 2, WORKERS_SEEN, WORKERS_INFO, worker.name, json.dumps(info))


def withdraw(client: Client, name: str) -> None:
    """Say good-bye, so that nobody counts on this worker."""
    client.zrem(WORKERS_SEEN, name)
    client.hdel(WORKERS_INFO, name)


def list_workers(client: Client) -> list[WorkerInfo]:
    """List the workers heard of within ten minutes, by name."""
    seconds, microseconds = client.time()
    now_s = seconds + microseconds / 1e6
    scores = cast(list[tuple[bytes, float]], client.zrange(WORKERS_SEEN, 0, -1, withscores=True))
    seen = {name.decode(): max(0.0, now_s - score) for name, score in scores}
    hashed = cast(dict[bytes, bytes], client.hgetall(WORKERS_INFO))
    infos = {name.decode(): text for name, text in hashed.items()}
    workers = (_read_info(infos[name], seen[name]) for name in sorted(seen.keys() & infos.keys()))
    return [worker for worker in workers if worker is not None]


def _read_info(text: bytes, last_seen_s: float) -> WorkerInfo | None:
    """Read what a worker says of itself, perhaps one of another version."""
    try:
        info = json.loads(text)
        known = {name: info[name] for name in _FIELDS}
        return WorkerInfo(
            **{**known, "queues": tuple(info["queues"])},
            last_seen_s=last_seen_s,
            processes=max(1, int(info.get("processes", 1))),
            key_proof=str(info.get("key_proof", "")),
            idle_s=float(info.get("idle_s", 0.0)),
        )
    except (ValueError, TypeError, KeyError) as error:
        log.warning("a worker that says %.200r of itself is not counted: %r", text, error)
        return None


def list_alive(client: Client, queue: str) -> list[WorkerInfo]:
    """List the living workers that listen to ``queue``, whatever their version."""
    return [w for w in list_workers(client) if w.is_alive and queue in w.queues]
