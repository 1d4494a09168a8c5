"""Foreign entries in the ledger's hashes are dropped and counted, and the step goes on."""

import pytest
import redis

from metafleet.contracts.keys import QUEUES_STARTED
from metafleet.db.engine import Database
from tests.integration.orchestrator.engine.open_step.bench import Bench


def test_foreign_fields_are_dropped_and_counted(client: redis.Redis, sqlite: Database) -> None:
    bench = Bench(client, sqlite)
    for field in (b"abc", b"", b"\xff", b"-1", b"1_0", b"9" * 5000):
        client.hset(bench.step_keys.done, field, "junk")
    for field in (b"abc", b"1", b"1:2:3", b"1:x", b":"):
        client.hset(bench.step_keys.started, field, "junk")
    for field, value in ((b"a", b"b"), (b"train:late:done", b"x"), (b"train:1:2:3:4:odd:x", b"w")):
        client.hset(bench.keys.discarded, field, value)

    for shard in range(4):
        bench.answer(shard)
    bench.take_in()

    assert bench.step.book.is_complete
    assert client.hkeys(bench.step_keys.started) == [b"0:0", b"1:0", b"2:0", b"3:0"]
    assert bench.counted() == {("rejected", "schema"): 11}


def test_a_field_that_only_reads_like_a_shard_is_no_result_of_it(
    client: redis.Redis, undisturbed: str
) -> None:
    bench = Bench(client)
    client.hset(bench.step_keys.done, mapping={"03": "junk", "00": "junk"})
    client.hset(bench.step_keys.started, mapping={"03:0": "junk", "3:00": "junk"})

    bench.take_in()

    assert client.hkeys(bench.step_keys.done) == client.hkeys(bench.step_keys.started) == []
    assert bench.finish() == undisturbed


@pytest.mark.parametrize("junk", [b"abc", b"7", b"999", b"inf", b"-7"])
def test_a_number_that_would_close_the_step_is_dropped(
    client: redis.Redis, undisturbed: str, junk: bytes
) -> None:
    bench = Bench(client)
    client.set(bench.step_keys.closed, junk)

    bench.take_in()

    assert client.get(bench.step_keys.closed) is None
    assert bench.finish() == undisturbed


def test_the_number_of_a_step_that_was_closed_before_is_kept(client: redis.Redis) -> None:
    bench = Bench(client)
    client.set(bench.step_keys.closed, 6)

    bench.take_in()

    assert client.get(bench.step_keys.closed) == b"6"


def test_another_type_in_place_of_the_last_closed_step_is_found_to_be(client: redis.Redis) -> None:
    bench = Bench(client)
    client.rpush(bench.step_keys.closed, "junk")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        bench.take_in()

    assert bench.step.key_types[bench.step_keys.closed] == "string"


def test_a_mark_of_a_queue_that_lies_in_the_future_makes_no_message_lost(
    client: redis.Redis, undisturbed: str
) -> None:
    bench = Bench(client)
    (mark,) = bench.step._marks.values()
    for score in (float("inf"), 1e18):
        client.zadd(QUEUES_STARTED, {mark._queue: score})

        assert bench.take_in() == []
        assert client.zscore(QUEUES_STARTED, mark._queue) is None
