"""Attempts begin once and are renewed while they last."""

import threading

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.ledger import JobLedger
from tests.fleet import wait_until
from tests.integration.contracts.ledger.desk import LEASE_MS, SHORT_MS, Desk
from tests.redis_server import RedisServer


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

    def test_an_attempt_of_a_closed_step_is_not_awaited(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()
        desk.owner.close_step(1, "train", 7)

        assert not worker.renew()

    def test_an_attempt_of_an_old_epoch_is_not_awaited(self, desk: Desk) -> None:
        worker = desk.worker()
        worker.start()
        desk.owner.take_over(2, lease_ms=LEASE_MS)

        assert not worker.renew()

    def test_an_attempt_of_a_finished_shard_is_not_awaited(self, desk: Desk) -> None:
        slow, quick = desk.worker("slow"), desk.worker("quick", attempt=1)
        slow.start()
        quick.start()
        quick.commit("result")

        assert not slow.renew()
