"""Attempts without a result are counted with their reason."""

import math
from typing import Any

import pytest
import redis

from metafleet.contracts.ledger import JobLedger
from metafleet.contracts.signing import sign
from metafleet.db.engine import Database
from metafleet.orchestrator.engine.replies import wait_for_results
from tests.integration.orchestrator.engine.open_step.bench import KEY, Bench


def test_a_result_of_other_arithmetic_is_refused_and_counted(
    client: redis.Redis, sqlite: Database
) -> None:
    bench = Bench(client, sqlite)
    bench.answer(1)

    ((_, result),) = wait_for_results(client, [bench.step], 0.05)
    bench.step.withdraw(result, "host:42 computes otherwise", kind="fingerprint")

    assert bench.counted() == {("rejected", "fingerprint"): 1}
    (row,) = bench.rows()
    assert (row.stream, row.step, row.epoch, row.shard, row.attempt) == ("train", 7, 1, 1, 1)
    assert (row.outcome, row.reason, row.worker) == ("rejected", "fingerprint", "host:42")
    assert row.detail == "host:42 computes otherwise"


@pytest.mark.parametrize(
    ("status", "reason"),
    [("failed", "error"), ("refused", "fingerprint"), ("missing", "missing_blob")],
)
def test_work_that_workers_could_not_do_is_counted_with_its_reason(
    client: redis.Redis, sqlite: Database, status: Any, reason: str
) -> None:
    bench = Bench(client, sqlite)
    bench.answer(2, status=status, reason=reason, error="host:42: no", is_retryable=True)
    bench.take_in()

    assert bench.counted() == {(status, reason): 1}
    assert [row.detail for row in bench.rows()] == ["host:42: no"]


def test_late_results_are_counted_by_shard_at_the_next_close(
    client: redis.Redis, sqlite: Database
) -> None:
    bench = Bench(client, sqlite)
    slow = JobLedger(client, bench.jobs[2], "slow:1/nonce")
    slow.start()
    bench.step.close()
    assert slow.commit(sign(bench.result(2), KEY).model_dump_json()) == "closed"

    assert bench.counted() == {("late", "closed"): 1}
    (row,) = bench.rows()
    assert (row.stream, row.step, row.shard, row.worker) == ("train", 7, 2, "slow:1")
    assert row.sent_us == bench.jobs[2].sent_us
    assert 0 <= row.queue_wait_s < 60 and 0 <= row.compute_s < 60
    assert math.isnan(row.round_trip_s)  # a worker dropped it


def test_attempts_that_a_new_epoch_gives_up_are_counted(
    client: redis.Redis, sqlite: Database
) -> None:
    bench = Bench(client, sqlite)
    bench.answer(0)
    bench.take_in()

    bench.step.move_to(2)
    bench.step.move_to(2)

    assert bench.step.book.unsent == [1, 2, 3]

    assert bench.counted() == {("lost", "epoch"): 3}
    assert {row.sent_us for row in bench.rows()} == {bench.jobs[1].sent_us}
    assert all(0 < row.round_trip_s < 60 for row in bench.rows())
