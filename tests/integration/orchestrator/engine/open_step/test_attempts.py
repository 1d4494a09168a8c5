"""Wake-ups may be lost or doubled, attempts may fail, and a closed step leaves nothing."""

import pytest
import redis

from metafleet.errors import NumericsError, ShardQuarantinedError
from metafleet.params import digest
from tests.integration.orchestrator.engine.open_step.bench import Bench


def test_results_whose_wake_up_was_lost_are_found_in_the_hash(
    client: redis.Redis, undisturbed: str
) -> None:
    bench = Bench(client)
    for shard in range(4):
        bench.answer(shard)
    client.delete(bench.step_keys.replies)

    assert bench.take_in() == []

    assert bench.step.book.is_complete
    assert digest(bench.step.outcome(2).sums) == undisturbed


def test_a_wake_up_that_comes_twice_counts_once(client: redis.Redis, undisturbed: str) -> None:
    bench = Bench(client)
    for shard in range(4):
        bench.answer(shard)
        client.rpush(bench.step_keys.replies, client.lindex(bench.step_keys.replies, -1))

    bench.take_in()

    assert digest(bench.step.outcome(2).sums) == undisturbed
    assert len(bench.step.outcome(2).metrics) == 10


def test_a_worker_that_fails_is_followed_by_another_attempt(
    client: redis.Redis, undisturbed: str
) -> None:
    bench = Bench(client)
    for shard in (0, 1, 3):
        bench.answer(shard)
    bench.answer(2, status="failed", error="no memory", is_retryable=True)

    assert bench.take_in() == [2]
    assert bench.finish() == undisturbed


def test_a_shard_that_fails_everywhere_is_given_up_with_its_reasons(client: redis.Redis) -> None:
    bench = Bench(client, max_attempts=2)
    bench.answer(2, status="failed", error="host:1: no memory", is_retryable=True)
    assert bench.take_in() == [2]
    bench.jobs.update(bench.send([2]))
    bench.answer(2, status="failed", error="host:2: no disk", is_retryable=True)

    with pytest.raises(ShardQuarantinedError, match="host:1: no memory; host:2: no disk"):
        bench.take_in()


def test_numbers_that_blow_up_are_not_tried_again(client: redis.Redis) -> None:
    bench = Bench(client)
    bench.answer(2, status="failed", error="the loss is nan")

    with pytest.raises(NumericsError, match="train step 7, shard 2: the loss is nan"):
        bench.take_in()


def test_a_closed_step_leaves_no_key_and_no_blob(client: redis.Redis) -> None:
    bench = Bench(client)
    for shard in range(4):
        bench.answer(shard)
    bench.take_in()

    bench.step.close()

    assert list(client.scan_iter(f"{bench.step_keys.root}:*")) == []
    assert bench.blobs.blobs == {}


def test_a_sum_whose_worker_died_before_it_committed_goes_with_the_step(
    client: redis.Redis,
) -> None:
    bench = Bench(client)
    bench.result(2)  # stored, never committed
    orphan = bench.step_keys.blob(2, 0)
    for shard in (0, 1, 3):
        bench.answer(shard)
    bench.take_in()
    bench.finish()
    assert orphan in bench.blobs.blobs

    bench.step.close()

    assert bench.blobs.blobs == {}
