"""Owning a run: each race that the ledger's scripts prevent, on a real Redis."""

import threading

import pytest
import redis

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.ledger import RunLedger
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


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_that_is_too_low_is_answered_with_the_one_found(
    client: redis.Redis, uid: str, owner: RunLedger, epoch: int
) -> None:
    client.delete(RunKeys(uid).lease)
    other = RunLedger(client, uid, "other")
    other.claim(lease_ms=LEASE_MS)

    claim = other.take_over(epoch, lease_ms=LEASE_MS)

    assert (claim.status, claim.found) == ("behind", 1)
    assert client.get(RunKeys(uid).epoch) == b"1"
    assert other.take_over(2, lease_ms=LEASE_MS).status == "ok"
    assert client.get(RunKeys(uid).holder) == b"other"


@pytest.mark.parametrize("junk", [b"abc", b"-7", b"1.5", b"9" * 30, b"nan", b"", b"\xff", ["list"]])
def test_an_invalid_epoch_is_skipped_and_replaced(
    client: redis.Redis, uid: str, owner: RunLedger, junk: bytes | list[str]
) -> None:
    key = RunKeys(uid).epoch
    client.delete(key)
    client.rpush(key, *junk) if isinstance(junk, list) else client.set(key, junk)
    assert owner.renew(1, lease_ms=LEASE_MS) == "changed"

    claim = owner.take_over(2, lease_ms=LEASE_MS)

    assert (claim.status, claim.found) == ("behind", None)
    assert owner.take_over(1003, lease_ms=LEASE_MS, may_replace=True).status == "ok"
    assert client.get(key) == b"1003"
    assert owner.renew(1003, lease_ms=LEASE_MS) == "ok"


@pytest.mark.parametrize(("text", "epoch"), [(b"0x10", 16), (b" 16 ", 16), (b"1e9", 10**9)])
def test_an_epoch_in_another_notation_is_the_number_that_redis_reads(
    client: redis.Redis, uid: str, owner: RunLedger, text: bytes, epoch: int
) -> None:
    client.set(RunKeys(uid).epoch, text)
    assert owner.renew(1, lease_ms=LEASE_MS) == "changed"

    claim = owner.take_over(2, lease_ms=LEASE_MS)

    assert (claim.status, claim.found) == ("behind", epoch)
    assert owner.take_over(epoch + 1, lease_ms=LEASE_MS).status == "ok"


@pytest.mark.parametrize("junk", ["no end", "a day", "list"])
def test_an_invalid_lease_does_not_block_a_claim(client: redis.Redis, uid: str, junk: str) -> None:
    key = RunKeys(uid).lease
    if junk == "list":
        client.rpush(key, "other")
    else:
        client.set(key, "other", px=None if junk == "no end" else 86_400_000)
    ledger = RunLedger(client, uid, "a")

    assert ledger.claim(lease_ms=LEASE_MS).status == "ok"
    assert ledger.take_over(1, lease_ms=LEASE_MS).status == "ok"
    assert client.get(key) == b"a"


def test_a_granted_epoch_wins_over_a_lease_that_is_still_held(
    client: redis.Redis, uid: str
) -> None:
    old, new = RunLedger(client, uid, "old"), RunLedger(client, uid, "new")
    old.claim(lease_ms=LEASE_MS)
    old.take_over(4, lease_ms=LEASE_MS)

    assert new.take_over(5, lease_ms=LEASE_MS, is_granted=True).status == "ok"

    assert old.renew(4, lease_ms=LEASE_MS) == "fenced"
    assert new.renew(5, lease_ms=LEASE_MS) == "ok"
    for epoch in (4, 5):
        assert old.take_over(epoch, lease_ms=LEASE_MS, is_granted=True).status == "behind"
    assert old.take_over(5, lease_ms=LEASE_MS).status == "held"


def test_taking_over_again_after_a_lost_answer_is_fine(client: redis.Redis, uid: str) -> None:
    ledger = RunLedger(client, uid, "granted")

    for _ in range(2):
        assert ledger.take_over(5, lease_ms=LEASE_MS, is_granted=True).status == "ok"

    other = RunLedger(client, uid, "other").take_over(5, lease_ms=LEASE_MS, is_granted=True)
    assert (other.status, other.found) == ("behind", 5)


def test_epochs_are_compared_as_numbers(client: redis.Redis, uid: str, owner: RunLedger) -> None:
    assert owner.take_over(9, lease_ms=LEASE_MS).status == "ok"
    assert owner.take_over(10, lease_ms=LEASE_MS).status == "ok"
    assert owner.renew(10, lease_ms=LEASE_MS) == "ok"


def test_renewing_prolongs_the_lease(client: redis.Redis, uid: str, owner: RunLedger) -> None:
    assert owner.renew(1, lease_ms=60_000) == "ok"
    assert client.pttl(RunKeys(uid).lease) > LEASE_MS


def test_renewing_takes_an_expired_lease_that_is_still_free(
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


def test_renewing_under_another_epoch_tells_that_it_was_changed(
    client: redis.Redis, uid: str, owner: RunLedger
) -> None:
    client.set(RunKeys(uid).epoch, 2, px=LEASE_MS)

    assert owner.renew(1, lease_ms=LEASE_MS) == "changed"


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
