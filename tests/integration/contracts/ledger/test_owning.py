"""Owning a run: each race that the ledger's scripts prevent, on a real Redis."""

import threading

import redis

from contracts.connections import connect
from contracts.keys import RunKeys
from contracts.ledger import RunLedger
from tests.fleet import wait_until
from tests.integration.contracts.ledger.desk import LEASE_MS, SHORT_MS
from tests.redis_server import RedisServer


def test_a_free_run_is_claimed(client: redis.Redis, uid: str) -> None:
    assert RunLedger(client, uid, "a").claim(lease_ms=LEASE_MS).status == "ok"
    assert client.get(RunKeys(uid).lease) == b"a"


def test_a_held_run_is_refused_naming_holder_and_time(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    claim = RunLedger(client, uid, "b").claim(lease_ms=LEASE_MS)

    assert (claim.status, claim.holder) == ("held", "owner")
    assert 0 < claim.remaining_ms <= LEASE_MS


def test_claiming_again_after_a_lost_answer_is_fine(owner: RunLedger) -> None:
    assert owner.claim(lease_ms=LEASE_MS).status == "ok"


def test_of_many_that_claim_at_once_one_gets_the_run(standing_redis: RedisServer, uid: str) -> None:
    statuses: list[str] = []
    start = threading.Barrier(8)

    def claim(name: str) -> None:
        with connect(standing_redis.url) as client:
            ledger = RunLedger(client, uid, name)
            start.wait()
            statuses.append(ledger.claim(lease_ms=LEASE_MS).status)

    threads = [threading.Thread(target=claim, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == ["held"] * 7 + ["ok"]


def test_a_lease_that_ran_out_is_free(client: redis.Redis, uid: str) -> None:
    RunLedger(client, uid, "a").claim(lease_ms=SHORT_MS)
    second = RunLedger(client, uid, "b")

    wait_until(lambda: second.claim(lease_ms=LEASE_MS).status == "ok", "the lease's end", 5)


def test_a_take_over_is_refused_when_another_claimed_meanwhile(
    client: redis.Redis, uid: str
) -> None:
    slow, quick = RunLedger(client, uid, "slow"), RunLedger(client, uid, "quick")
    slow.claim(lease_ms=LEASE_MS)
    client.delete(RunKeys(uid).lease)
    quick.claim(lease_ms=LEASE_MS)

    assert slow.take_over(5, lease_ms=LEASE_MS).holder == "quick"
    assert client.get(RunKeys(uid).epoch) is None


def test_a_take_over_whose_answer_was_lost_may_be_repeated(owner: RunLedger) -> None:
    assert owner.take_over(2, lease_ms=LEASE_MS).status == "ok"
    assert owner.take_over(2, lease_ms=LEASE_MS).status == "ok"


def test_an_epoch_that_is_not_newer_is_fenced(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    assert owner.take_over(0, lease_ms=LEASE_MS).status == "fenced"
    assert client.get(RunKeys(uid).epoch) == b"1"


def test_a_granted_epoch_wins_over_a_lease_that_is_still_held(
    client: redis.Redis, uid: str
) -> None:
    old, new = RunLedger(client, uid, "old"), RunLedger(client, uid, "new")
    old.claim(lease_ms=LEASE_MS)
    old.take_over(4, lease_ms=LEASE_MS)

    assert new.seize(5, lease_ms=LEASE_MS).status == "ok"

    assert old.renew(4, lease_ms=LEASE_MS) == "fenced"
    assert new.renew(5, lease_ms=LEASE_MS) == "ok"
    assert old.seize(4, lease_ms=LEASE_MS).status == "fenced"
    assert old.seize(5, lease_ms=LEASE_MS).status == "fenced"


def test_seizing_again_after_a_lost_answer_is_fine(client: redis.Redis, uid: str) -> None:
    ledger = RunLedger(client, uid, "granted")

    assert ledger.seize(5, lease_ms=LEASE_MS).status == "ok"
    assert ledger.seize(5, lease_ms=LEASE_MS).status == "ok"

    assert RunLedger(client, uid, "other").seize(5, lease_ms=LEASE_MS).status == "fenced"


def test_epochs_are_compared_as_numbers(client: redis.Redis, uid: str, owner: RunLedger) -> None:
    assert owner.take_over(9, lease_ms=LEASE_MS).status == "ok"
    assert owner.take_over(10, lease_ms=LEASE_MS).status == "ok"
    assert owner.renew(10, lease_ms=LEASE_MS) == "ok"


def test_renewing_prolongs_the_lease(client: redis.Redis, uid: str, owner: RunLedger) -> None:
    assert owner.renew(1, lease_ms=60_000) == "ok"
    assert client.pttl(RunKeys(uid).lease) > LEASE_MS


def test_renewing_takes_an_expired_lease_that_nobody_took(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    client.delete(RunKeys(uid).lease)

    assert owner.renew(1, lease_ms=LEASE_MS) == "ok"
    assert client.get(RunKeys(uid).lease) == b"owner"


def test_renewing_a_lease_that_another_took_is_fenced(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    client.set(RunKeys(uid).lease, "other", px=LEASE_MS)

    assert owner.renew(1, lease_ms=LEASE_MS) == "fenced"
    assert client.get(RunKeys(uid).lease) == b"other"


def test_renewing_under_an_old_epoch_is_fenced(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    client.set(RunKeys(uid).epoch, 2, px=LEASE_MS)

    assert owner.renew(1, lease_ms=LEASE_MS) == "fenced"


def test_renewing_tells_that_redis_came_back_empty(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    client.delete(RunKeys(uid).epoch, RunKeys(uid).lease)

    assert owner.renew(1, lease_ms=LEASE_MS) == "empty"
    assert client.exists(RunKeys(uid).lease) == 0


def test_a_released_run_is_free_at_once(client: redis.Redis, uid: str, owner: RunLedger) -> None:
    owner.release()

    assert RunLedger(client, uid, "b").claim(lease_ms=LEASE_MS).status == "ok"


def test_releasing_leaves_the_lease_of_another_alone(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    client.set(RunKeys(uid).lease, "other", px=LEASE_MS)

    owner.release()

    assert client.get(RunKeys(uid).lease) == b"other"
