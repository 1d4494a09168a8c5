"""One result of each shard is committed."""

import threading

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.ledger import JobLedger
from tests.fleet import wait_until
from tests.integration.contracts.ledger.desk import LEASE_MS, SHORT_MS, Desk
from tests.redis_server import RedisServer


def test_a_result_is_kept_and_wakes_the_orchestrator(desk: Desk) -> None:
    worker = desk.worker()
    worker.start()

    assert worker.commit("result") == "ok"
    assert desk.client.hgetall(desk.step().done) == {b"1": b"result"}
    assert desk.client.lrange(desk.step().replies, 0, -1) == [b"result"]
    assert not desk.client.exists(desk.step().lease(1, 0))


def test_the_first_of_two_attempts_counts(desk: Desk) -> None:
    assert desk.worker("first").commit("one") == "ok"
    assert desk.worker("second", attempt=1).commit("two") == "done"
    assert desk.client.hget(desk.step().done, "1") == b"one"
    assert desk.client.llen(desk.step().replies) == 1


def test_committing_again_after_a_lost_answer_is_fine_and_wakes_once(desk: Desk) -> None:
    worker = desk.worker()

    assert [worker.commit("one"), worker.commit("one")] == ["ok", "ok"]
    assert desk.client.llen(desk.step().replies) == 1


def test_a_late_result_still_counts_when_no_other_came(desk: Desk) -> None:
    worker = desk.worker(lease_ms=SHORT_MS)
    worker.start()
    wait_until(lambda: not desk.client.exists(desk.step().lease(1, 0)), "the lease's end", 5)

    assert worker.commit("late") == "ok"


def test_a_result_for_a_closed_step_leaves_nothing_behind(desk: Desk) -> None:
    worker = desk.worker()
    worker.start()
    desk.owner.close_step(1, "train", 7)
    desk.client.delete(desk.step().lease(1, 0))

    assert worker.commit("late") == "closed"
    assert desk.keys_of_steps() == set()


@pytest.mark.parametrize("junk", [b"abc", b"", b"\xff", b"nan", ["list"]])
def test_an_invalid_number_closes_no_step(desk: Desk, junk: bytes | list[str]) -> None:
    key = desk.run.closed("train", epoch=1)
    desk.client.rpush(key, *junk) if isinstance(junk, list) else desk.client.set(key, junk)
    worker = desk.worker()

    assert worker.start()[0] == "ok"
    assert worker.renew()
    assert worker.commit("result") == "ok"
    assert desk.owner.close_step(1, "train", 7)[0] == "ok"
    assert desk.client.get(key) == b"7"


def test_a_result_of_an_old_epoch_touches_nothing(desk: Desk) -> None:
    worker = desk.worker()
    desk.owner.take_over(2, lease_ms=LEASE_MS)

    assert worker.commit("late") == "stale"
    assert desk.keys_of_steps() == set()


def test_every_shard_of_many_racing_attempts_counts_once(
    desk: Desk, standing_redis: RedisServer
) -> None:
    outcomes: list[str] = []

    def work(name: int) -> None:
        with connect(standing_redis.url) as client:
            for shard in range(10):
                ledger = JobLedger(client, desk.job(shard=shard, attempt=name), str(name))
                ledger.start()
                outcomes.append(ledger.commit(f"{shard} by {name}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("ok") == 10
    assert outcomes.count("done") == 30
    done = desk.client.hgetall(desk.step().done)
    assert sorted(done.values()) == sorted(desk.client.lrange(desk.step().replies, 0, -1))
    assert sorted(map(int, done)) == list(range(10))
