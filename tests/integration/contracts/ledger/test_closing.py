"""The state after a step: reopened shards, closed steps, keys that expire."""

import pytest

from metafleet.contracts.ledger import RUN_TTL_MS, STEP_TTL_MS
from tests.integration.contracts.ledger.desk import LEASE_MS, Desk


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
        desk.run.epoch,
        desk.run.holder,
        desk.run.lease,
        desk.run.closed("train", epoch=1),
        step.started,
        step.done,
        step.replies,
        step.lease(1, 0),
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
