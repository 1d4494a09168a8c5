"""The ledger against a real Redis: each race that its scripts prevent, one by one."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from contracts.connections import connect
from contracts.dropped import MOST_DROPPED, Dropped
from contracts.job import InnerLoopJob
from contracts.keys import RunKeys, StepKeys
from contracts.ledger import RUN_TTL_MS, STEP_TTL_MS, JobLedger, RunLedger
from tests.fleet import wait_until
from tests.messages import make_job, new_uid
from tests.redis_server import RedisServer

LEASE_MS = 5000
SHORT_MS = 100


@pytest.fixture
def client(standing_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(standing_redis.url) as client:
        yield client


@pytest.fixture
def uid() -> str:
    return new_uid()


@pytest.fixture
def owner(client: redis.Redis, uid: str) -> RunLedger:
    """An orchestrator that owns the run under epoch 1."""
    ledger = RunLedger(client, uid, "owner")
    assert ledger.claim(lease_ms=LEASE_MS).status == "ok"
    assert ledger.take_over(1, lease_ms=LEASE_MS).status == "ok"
    return ledger


class Desk:
    """Where the workers of one owned run come to."""

    def __init__(self, client: redis.Redis, uid: str, owner: RunLedger) -> None:
        self.client, self.uid, self.owner = client, uid, owner
        self.run = RunKeys(uid)

    def step(self, number: int = 7, epoch: int = 1) -> StepKeys:
        return self.run.step("train", number, epoch=epoch)

    def job(self, **changes: Any) -> InnerLoopJob:
        return make_job(run=self.uid, **changes)

    def worker(self, nonce: str = "worker", **changes: Any) -> JobLedger:
        return JobLedger(self.client, self.job(**changes), nonce)

    def keys(self) -> dict[str, int]:
        """Every key of the run with its milliseconds to live."""
        names = self.client.scan_iter(f"mf:{{{self.uid}}}:*")
        return {name.decode(): self.client.pttl(name) for name in names}

    def keys_of_steps(self) -> set[str]:
        kept = {self.run.epoch, self.run.lease, self.run.dropped}
        return set(self.keys()) - kept - self.closed_keys()

    def closed_keys(self) -> set[str]:
        return {self.run.closed("train", epoch=epoch) for epoch in (1, 2)}


@pytest.fixture
def desk(client: redis.Redis, uid: str, owner: RunLedger) -> Desk:
    return Desk(client, uid, owner)


class TestOwningARun:
    def test_a_free_run_is_claimed(self, client: redis.Redis, uid: str) -> None:
        assert RunLedger(client, uid, "a").claim(lease_ms=LEASE_MS).status == "ok"
        assert client.get(RunKeys(uid).lease) == b"a"

    def test_a_held_run_is_refused_naming_holder_and_time(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        claim = RunLedger(client, uid, "b").claim(lease_ms=LEASE_MS)

        assert (claim.status, claim.holder) == ("held", "owner")
        assert 0 < claim.remaining_ms <= LEASE_MS

    def test_claiming_again_after_a_lost_answer_is_fine(self, owner: RunLedger) -> None:
        assert owner.claim(lease_ms=LEASE_MS).status == "ok"

    def test_of_many_that_claim_at_once_one_gets_the_run(
        self, standing_redis: RedisServer, uid: str
    ) -> None:
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

    def test_a_lease_that_ran_out_is_free(self, client: redis.Redis, uid: str) -> None:
        RunLedger(client, uid, "a").claim(lease_ms=SHORT_MS)
        second = RunLedger(client, uid, "b")

        wait_until(lambda: second.claim(lease_ms=LEASE_MS).status == "ok", "the lease's end", 5)

    def test_a_take_over_is_refused_when_another_claimed_meanwhile(
        self, client: redis.Redis, uid: str
    ) -> None:
        slow, quick = RunLedger(client, uid, "slow"), RunLedger(client, uid, "quick")
        slow.claim(lease_ms=LEASE_MS)
        client.delete(RunKeys(uid).lease)
        quick.claim(lease_ms=LEASE_MS)

        assert slow.take_over(5, lease_ms=LEASE_MS).holder == "quick"
        assert client.get(RunKeys(uid).epoch) is None

    def test_a_take_over_whose_answer_was_lost_may_be_repeated(self, owner: RunLedger) -> None:
        assert owner.take_over(2, lease_ms=LEASE_MS).status == "ok"
        assert owner.take_over(2, lease_ms=LEASE_MS).status == "ok"

    def test_an_epoch_that_is_not_newer_is_fenced(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        assert owner.take_over(0, lease_ms=LEASE_MS).status == "fenced"
        assert client.get(RunKeys(uid).epoch) == b"1"

    def test_a_granted_epoch_wins_over_a_lease_that_is_still_held(
        self, client: redis.Redis, uid: str
    ) -> None:
        old, new = RunLedger(client, uid, "old"), RunLedger(client, uid, "new")
        old.claim(lease_ms=LEASE_MS)
        old.take_over(4, lease_ms=LEASE_MS)

        assert new.seize(5, lease_ms=LEASE_MS).status == "ok"

        assert old.renew(4, lease_ms=LEASE_MS) == "fenced"
        assert new.renew(5, lease_ms=LEASE_MS) == "ok"
        assert old.seize(4, lease_ms=LEASE_MS).status == "fenced"
        assert old.seize(5, lease_ms=LEASE_MS).status == "fenced"

    def test_seizing_again_after_a_lost_answer_is_fine(self, client: redis.Redis, uid: str) -> None:
        ledger = RunLedger(client, uid, "granted")

        assert ledger.seize(5, lease_ms=LEASE_MS).status == "ok"
        assert ledger.seize(5, lease_ms=LEASE_MS).status == "ok"

        assert RunLedger(client, uid, "other").seize(5, lease_ms=LEASE_MS).status == "fenced"

    def test_epochs_are_compared_as_numbers(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        assert owner.take_over(9, lease_ms=LEASE_MS).status == "ok"
        assert owner.take_over(10, lease_ms=LEASE_MS).status == "ok"
        assert owner.renew(10, lease_ms=LEASE_MS) == "ok"

    def test_renewing_prolongs_the_lease(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        assert owner.renew(1, lease_ms=60_000) == "ok"
        assert client.pttl(RunKeys(uid).lease) > LEASE_MS

    def test_renewing_takes_an_expired_lease_that_nobody_took(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        client.delete(RunKeys(uid).lease)

        assert owner.renew(1, lease_ms=LEASE_MS) == "ok"
        assert client.get(RunKeys(uid).lease) == b"owner"

    def test_renewing_a_lease_that_another_took_is_fenced(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        client.set(RunKeys(uid).lease, "other", px=LEASE_MS)

        assert owner.renew(1, lease_ms=LEASE_MS) == "fenced"
        assert client.get(RunKeys(uid).lease) == b"other"

    def test_renewing_under_an_old_epoch_is_fenced(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        client.set(RunKeys(uid).epoch, 2, px=LEASE_MS)

        assert owner.renew(1, lease_ms=LEASE_MS) == "fenced"

    def test_renewing_tells_that_redis_came_back_empty(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        client.delete(RunKeys(uid).epoch, RunKeys(uid).lease)

        assert owner.renew(1, lease_ms=LEASE_MS) == "empty"
        assert client.exists(RunKeys(uid).lease) == 0

    def test_a_released_run_is_free_at_once(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        owner.release()

        assert RunLedger(client, uid, "b").claim(lease_ms=LEASE_MS).status == "ok"

    def test_releasing_leaves_the_lease_of_another_alone(
        self, client: redis.Redis, uid: str, owner: RunLedger
    ) -> None:
        client.set(RunKeys(uid).lease, "other", px=LEASE_MS)

        owner.release()

        assert client.get(RunKeys(uid).lease) == b"other"


class TestStartingAnAttempt:
    def test_a_fresh_attempt_starts_and_is_leased(self, desk: Desk) -> None:
        assert desk.worker().start()[0] == "ok"
        assert desk.client.hget(desk.step().started, "1:0") == b"worker"
        assert desk.client.get(desk.step().lease(1, 0)) == b"worker"

    def test_the_wait_in_the_queue_is_measured_by_redis(self, desk: Desk) -> None:
        seconds, microseconds = desk.client.time()
        sent_us = seconds * 1_000_000 + microseconds - 2_500_000

        _, waited_s = desk.worker(sent_us=sent_us).start()

        assert 2.5 <= waited_s < 10

    def test_a_clock_that_went_backwards_gives_no_negative_wait(self, desk: Desk) -> None:
        assert desk.worker(sent_us=2**53 - 1).start() == ("ok", 0.0)

    def test_an_attempt_delivered_twice_starts_once(self, desk: Desk) -> None:
        assert desk.worker("first").start()[0] == "ok"
        assert desk.worker("second").start()[0] == "taken"
        assert desk.client.get(desk.step().lease(1, 0)) == b"first"

    def test_an_attempt_whose_worker_died_is_not_started_again(self, desk: Desk) -> None:
        desk.worker("first").start()
        desk.client.delete(desk.step().lease(1, 0))

        assert desk.worker("second").start()[0] == "taken"

    def test_starting_again_after_a_lost_answer_is_fine(self, desk: Desk) -> None:
        worker = desk.worker()

        assert [worker.start()[0], worker.start()[0]] == ["ok", "ok"]

    def test_another_attempt_of_the_same_shard_starts(self, desk: Desk) -> None:
        assert desk.worker("first").start()[0] == "ok"
        assert desk.worker("second", attempt=1).start()[0] == "ok"

    def test_of_many_deliveries_at_once_one_starts(
        self, desk: Desk, standing_redis: RedisServer
    ) -> None:
        statuses: list[str] = []
        start = threading.Barrier(8)

        def begin(name: str) -> None:
            with connect(standing_redis.url) as client:
                ledger = JobLedger(client, desk.job(), name)
                start.wait()
                statuses.append(ledger.start()[0])

        threads = [threading.Thread(target=begin, args=(str(i),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(statuses) == ["ok"] + ["taken"] * 7

    @pytest.mark.parametrize("epoch", [0, 2])
    def test_a_message_of_another_epoch_is_stale(self, desk: Desk, epoch: int) -> None:
        assert desk.worker(epoch=epoch).start()[0] == "stale"
        assert desk.keys_of_steps() == set()

    def test_a_message_for_a_redis_that_forgot_the_run_is_stale(self, desk: Desk) -> None:
        desk.client.delete(desk.run.epoch)

        assert desk.worker().start()[0] == "stale"

    @pytest.mark.parametrize("step", [6, 7])
    def test_a_late_message_of_a_closed_step_is_dropped(self, desk: Desk, step: int) -> None:
        desk.owner.close_step(1, "train", 7)

        assert desk.worker(step=step).start()[0] == "closed"
        assert desk.keys_of_steps() == set()

    def test_steps_are_compared_as_numbers(self, desk: Desk) -> None:
        desk.owner.close_step(1, "train", 9)

        assert desk.worker(step=10).start()[0] == "ok"

    def test_a_closed_step_of_another_stream_does_not_matter(self, desk: Desk) -> None:
        desk.owner.close_step(1, "validate", 99)

        assert desk.worker().start()[0] == "ok"

    def test_a_new_epoch_opens_closed_steps_again(self, desk: Desk) -> None:
        desk.owner.close_step(1, "train", 9)
        desk.owner.take_over(2, lease_ms=LEASE_MS)

        assert desk.worker(epoch=2).start()[0] == "ok"

    def test_a_shard_that_is_done_is_not_computed_again(self, desk: Desk) -> None:
        desk.worker("first").start()
        desk.worker("first").commit("result")

        assert desk.worker("second", attempt=1).start()[0] == "done"


class TestRenewingAnAttempt:
    def test_a_running_attempt_keeps_its_lease(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()
        desk.client.pexpire(desk.step().lease(1, 0), 1000)

        assert worker.renew()
        assert desk.client.pttl(desk.step().lease(1, 0)) > 1000

    def test_a_lease_that_ran_out_is_not_revived(self, desk: Desk) -> None:
        worker = desk.worker(lease_ms=SHORT_MS)
        worker.start()
        lease = desk.step().lease(1, 0)
        wait_until(lambda: not desk.client.exists(lease), "the lease's end", 5)

        assert not worker.renew()
        assert not desk.client.exists(lease)

    def test_a_lease_of_another_is_not_prolonged(self, desk: Desk) -> None:
        desk.worker("first").start()

        assert not desk.worker("second").renew()

    def test_nobody_waits_for_a_closed_step(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()
        desk.owner.close_step(1, "train", 7)

        assert not worker.renew()

    def test_nobody_waits_under_an_old_epoch(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()
        desk.owner.take_over(2, lease_ms=LEASE_MS)

        assert not worker.renew()

    def test_nobody_waits_for_a_shard_that_another_did(self, desk: Desk) -> None:
        slow, quick = desk.worker("slow"), desk.worker("quick", attempt=1)
        slow.start()
        quick.start()
        quick.commit("result")

        assert not slow.renew()


class TestCommitting:
    def test_a_result_is_kept_and_wakes_the_orchestrator(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()

        assert worker.commit("result") == "ok"
        assert desk.client.hgetall(desk.step().done) == {b"1": b"result"}
        assert desk.client.lrange(desk.step().replies, 0, -1) == [b"result"]
        assert not desk.client.exists(desk.step().lease(1, 0))

    def test_the_first_of_two_attempts_counts(self, desk: Desk) -> None:
        assert desk.worker("first").commit("one") == "ok"
        assert desk.worker("second", attempt=1).commit("two") == "done"
        assert desk.client.hget(desk.step().done, "1") == b"one"
        assert desk.client.llen(desk.step().replies) == 1

    def test_committing_again_after_a_lost_answer_is_fine_and_wakes_once(self, desk: Desk) -> None:
        worker = desk.worker()

        assert [worker.commit("one"), worker.commit("one")] == ["ok", "ok"]
        assert desk.client.llen(desk.step().replies) == 1

    def test_a_late_result_still_counts_when_no_other_came(self, desk: Desk) -> None:
        worker = desk.worker(lease_ms=SHORT_MS)
        worker.start()
        wait_until(lambda: not desk.client.exists(desk.step().lease(1, 0)), "the lease's end", 5)

        assert worker.commit("late") == "ok"

    def test_a_result_for_a_closed_step_leaves_nothing_behind(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()
        desk.owner.close_step(1, "train", 7)
        desk.client.delete(desk.step().lease(1, 0))

        assert worker.commit("late") == "closed"
        assert desk.keys_of_steps() == set()

    def test_a_result_of_an_old_epoch_touches_nothing(self, desk: Desk) -> None:
        worker = desk.worker()
        desk.owner.take_over(2, lease_ms=LEASE_MS)

        assert worker.commit("late") == "stale"
        assert desk.keys_of_steps() == set()

    def test_every_shard_of_many_racing_attempts_counts_once(
        self, desk: Desk, standing_redis: RedisServer
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


class TestReopeningAndClosing:
    def test_a_bad_result_is_withdrawn_and_another_may_come(self, desk: Desk) -> None:
        desk.worker("bad").commit("bad result")

        desk.owner.reopen(desk.step(), shard=1, result=b"bad result")

        assert desk.worker("good", attempt=1).start()[0] == "ok"
        assert desk.worker("good", attempt=1).commit("good result") == "ok"

    def test_only_the_bad_result_is_withdrawn(self, desk: Desk) -> None:
        desk.worker().commit("good result")
        desk.worker(shard=2).commit("bad result")

        desk.owner.reopen(desk.step(), shard=1, result=b"bad result")

        assert desk.client.hkeys(desk.step().done) == [b"1", b"2"]

    def test_closing_leaves_no_key_of_the_step(self, desk: Desk) -> None:
        for shard in range(3):
            worker = desk.worker(shard=shard)
            worker.start()
            worker.commit(f"result {shard}")

        assert desk.owner.close_step(1, "train", 7)[0] == "ok"
        assert desk.keys_of_steps() == set()

    def test_closing_leaves_the_next_step_alone(self, desk: Desk) -> None:
        desk.worker(step=8).commit("result")

        desk.owner.close_step(1, "train", 7)

        assert desk.client.hkeys(desk.step(8).done) == [b"1"]

    def test_closing_again_after_a_lost_answer_is_fine(self, desk: Desk) -> None:
        assert desk.owner.close_step(1, "train", 7)[0] == "ok"
        assert desk.owner.close_step(1, "train", 7)[0] == "ok"

    @pytest.mark.parametrize("epoch", [0, 2])
    def test_a_fenced_out_orchestrator_closes_nothing(self, desk: Desk, epoch: int) -> None:
        desk.worker().commit("result")
        before = set(desk.keys())

        assert desk.owner.close_step(epoch, "train", 7)[0] == "fenced"
        assert set(desk.keys()) == before


def test_every_key_has_a_time_to_live(desk: Desk) -> None:
    desk.owner.close_step(1, "train", 6)
    desk.worker().start()
    desk.worker(shard=2).start()
    desk.worker(shard=2).commit("result")
    desk.owner.renew(1, lease_ms=LEASE_MS)

    keys = desk.keys()

    step = desk.step()
    assert set(keys) == {
        *(desk.run.epoch, desk.run.lease, desk.run.closed("train", epoch=1)),
        *(step.started, step.done, step.replies, step.lease(1, 0)),
    }
    assert all(ttl_ms > 0 for ttl_ms in keys.values())
    assert keys[desk.run.epoch] > RUN_TTL_MS - 60_000
    assert keys[step.done] > STEP_TTL_MS - 60_000


def test_the_scripts_survive_a_redis_that_forgot_them(desk: Desk) -> None:
    worker = desk.worker()
    worker.start()
    desk.client.script_flush()

    assert worker.renew()
    assert worker.commit("result") == "ok"


class TestWhatWasDropped:
    """What came to nothing at a worker is told to the orchestrator, once."""

    def test_a_late_result_is_told_at_the_next_close(self, desk: Desk) -> None:
        worker = desk.worker("host:42/nonce")
        worker.start()
        assert desk.owner.close_step(1, "train", 7) == ("ok", ())

        assert [worker.commit("late") for _ in range(2)] == ["closed", "closed"]

        status, dropped = desk.owner.close_step(1, "train", 8)
        expected = Dropped("train", "late", "closed", 1, 7, 1, 0, "host:42")
        assert (status, dropped) == ("ok", (expected,))
        assert desk.owner.take_dropped(1) == ()

    def test_what_is_not_started_and_what_is_stopped_is_told(self, desk: Desk) -> None:
        first, second = desk.worker("a:1/x"), desk.worker("b:2/y")
        first.start()
        assert second.start()[0] == "taken"
        first.commit("result")
        assert desk.worker("c:3/z", attempt=1).start()[0] == "done"
        assert desk.worker("d:4/z", epoch=0).start()[0] == "stale"
        first.note_stopped()

        found = {(d.outcome, d.reason, d.worker) for d in desk.owner.take_dropped(1)}

        assert found == {
            ("unneeded", "taken", "b:2"),
            ("unneeded", "done", "c:3"),
            ("unneeded", "stale", "d:4"),
            ("cancelled", "unwanted", "a:1"),
        }

    def test_it_is_told_to_the_owner_alone(self, desk: Desk) -> None:
        desk.worker(epoch=0).start()
        desk.owner.take_over(2, lease_ms=LEASE_MS)

        assert desk.owner.take_dropped(1) == ()
        assert desk.owner.close_step(1, "train", 7) == ("fenced", ())

        assert len(desk.owner.take_dropped(2)) == 1

    def test_a_flood_is_counted_and_not_kept(self, desk: Desk) -> None:
        worker = desk.worker()
        desk.owner.close_step(1, "train", 7)
        for shard in range(MOST_DROPPED):
            desk.client.hset(desk.run.dropped, f"train:1:7:{shard + 2}:0:late:closed", "host:1")

        for attempt in range(3):
            assert desk.worker(attempt=attempt).start()[0] == "closed"
        assert worker.commit("late") == "closed"

        assert desk.client.hlen(desk.run.dropped) == MOST_DROPPED + 2
        assert 0 < desk.client.pttl(desk.run.dropped) <= STEP_TTL_MS
        several = {d for d in desk.owner.take_dropped(1) if d.step is None}
        assert several == {
            Dropped("train", "unneeded", "closed", n=3),
            Dropped("train", "late", "closed", n=1),
        }
