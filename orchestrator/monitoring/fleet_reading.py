"""The state of the fleet in Redis at one moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from metafleet.contracts.connections import Client, connect, redis_errors, require_broker_url
from metafleet.contracts.demand import Demand, read_demand
from metafleet.contracts.keys import queue_list, queue_of
from metafleet.contracts.presence import WorkerInfo, list_workers
from metafleet.contracts.settings import Settings

QUEUES: Final = (queue_of("cpu"), queue_of("cuda"))
_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a Redis server in bytes; ``limit`` is 0 if it has none."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class FleetReading:
    """The state of the fleet.

    Attributes:
        workers: the workers that sent a heartbeat within ten minutes.
        queues: queue -> number of messages that no worker has taken.
        demand: the open shards of each run.
        memory: "broker" and "blobs" -> the memory of this server. A store that is not a Redis
            server has no entry.
    """

    workers: tuple[WorkerInfo, ...]
    queues: dict[str, int]
    demand: tuple[Demand, ...]
    memory: dict[str, Memory]

    @property
    def alive(self) -> tuple[WorkerInfo, ...]:
        """The workers that are alive."""
        return tuple(worker for worker in self.workers if worker.is_alive)

    @property
    def open_shards(self) -> int:
        """The open shards of all runs."""
        return sum(demand.open_shards for demand in self.demand)


def read_fleet(settings: Settings) -> FleetReading:
    """Read the state of the fleet.

    Raises:
        ConfigError: no broker is configured, or it refuses the password.
        BrokerUnavailableError: the broker cannot be reached.
    """
    url = require_broker_url(settings)
    with redis_errors(url), connect(url, socket_timeout_s=_TIMEOUT_S, retries=0) as client:
        lists = [queue_list(queue, settings.signing_key) for queue in QUEUES]
        return FleetReading(
            workers=tuple(list_workers(client)),
            queues=dict(zip(QUEUES, map(client.llen, lists), strict=True)),
            demand=read_demand(client),
            memory=dict(_memories(client, settings)),
        )


def _memories(broker: Client, settings: Settings) -> Iterator[tuple[str, Memory]]:
    yield "broker", _memory_of(broker)
    url = settings.blobs_url or ""
    if url.startswith(("redis://", "rediss://")) and url != settings.broker_url:
        with redis_errors(url), connect(url, socket_timeout_s=_TIMEOUT_S, retries=0) as blobs:
            yield "blobs", _memory_of(blobs)


def _memory_of(client: Client) -> Memory:
    info = client.info("memory")
    return Memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))
