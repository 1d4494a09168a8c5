"""A Redis that becomes a replica for a while, as in a failover."""

import time

import pytest

from metafleet.contracts.connections import connect
from tests.fleet import Fleet, wait_until
from tests.running import Running

AS_A_REPLICA_S = 4.0


@pytest.mark.parametrize("serves_stale", [True, False], ids=["READONLY", "MASTERDOWN"])
def test_a_redis_that_is_a_replica_for_four_seconds(
    standing_fleet: Fleet, expected: str, serves_stale: bool
) -> None:
    fleet = standing_fleet
    running = Running(fleet.settings)

    def demote() -> None:
        with connect(str(fleet.settings.broker_url)) as client:
            client.config_set("replica-serve-stale-data", "yes" if serves_stale else "no")
            client.replicaof("127.0.0.1", "1")
            demoted_s = time.monotonic()
            wait_until(lambda: running.watcher.notices, "the notice of the failover")
            wait_until(
                lambda: time.monotonic() - demoted_s >= AS_A_REPLICA_S or running.has_ended,
                "the end of the failover",
            )
            client.replicaof("NO", "ONE")
            client.config_set("replica-serve-stale-data", "yes")

    running.disturb(demote)

    assert running.watcher.notices[0].startswith("waiting: Redis at redis://:***@127.0.0.1")
    assert (
        "is a replica" in running.watcher.notices[0]
        or "broke a wait off" in (running.watcher.notices[0])
    )
    case = "READONLY" if serves_stale else "MASTERDOWN"
    running.assert_undisturbed(
        expected, f"failover: Redis a replica for 4 s ({case})", "said so, waited, went on"
    )
    assert [worker.process.poll() for worker in fleet.workers] == [None, None]
