"""The demand of runs: how many shards of their open steps are not done, whether sent or not.

Orchestrators publish it, because Redis alone does not show it: shards that wait for their turn are
not in Redis, and messages leave the queue when a worker takes them.
"""

import logging
import re
from dataclasses import dataclass
from typing import Final, cast

from metafleet.contracts.connections import Client
from metafleet.contracts.keys import DEMAND

log = logging.getLogger(__name__)

FRESH_S: Final = 15.0
"""Age at which an entry no longer counts: its orchestrator computes something else, or died."""

_TTL_S: Final = 600
_RUN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VALUE: Final = re.compile(r"(?P<open>[0-9]{1,9}) (?P<sent_us>[0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Demand:
    """The demand of one run: its uid, and the number of shards that are not done."""

    run: str
    open_shards: int


def publish_demand(client: Client, run: str, open_shards: int, *, now_us: int) -> None:
    """Publish a run's demand; ``now_us`` is the time in microseconds of Redis's clock."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hset(DEMAND, run, f"{open_shards} {now_us}")
    pipeline.expire(DEMAND, _TTL_S)
    pipeline.execute()


def withdraw_demand(client: Client, run: str) -> None:
    """Remove the demand of a run that has ended."""
    client.hdel(DEMAND, run)


def read_demand(client: Client) -> tuple[Demand, ...]:
    """Return the demand of each run that has published it within the last seconds, by run."""
    seconds, microseconds = client.time()
    fresh_us = seconds * 1_000_000 + microseconds - int(FRESH_S * 1e6)
    entries = cast(dict[bytes, bytes], client.hgetall(DEMAND))
    found = []
    for field, text in entries.items():
        run, value = field.decode(errors="replace"), text.decode(errors="replace")
        match = _VALUE.fullmatch(value)
        if _RUN.fullmatch(run) is None or match is None:
            client.hdel(DEMAND, field)
            log.warning("dropped %.80r from %s, which is not ours", run, DEMAND)
        elif int(match["sent_us"]) >= fresh_us:
            found.append(Demand(run, int(match["open"])))
    return tuple(sorted(found, key=lambda demand: demand.run))
