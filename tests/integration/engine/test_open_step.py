"""An open step against a real Redis: what lies there unsound is refused and computed again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from contracts.connections import connect
from contracts.exchange import Exchange
from contracts.job import InnerLoopJob, ShardResult
from contracts.keys import RunKeys, queue_list
from contracts.ledger import JobLedger, RunLedger
from contracts.signing import sign
from metafleet.errors import NumericsError, ShardQuarantinedError
from metafleet.params import digest
from orchestrator.engine.open_step import OpenStep
from orchestrator.engine.replies import wait_for_results
from orchestrator.engine.step import cut
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_request, make_result, make_sums, new_uid, with_blob
from tests.redis_server import RedisServer

KEY = "key"
SIZES = (3, 3, 3, 1)


@pytest.fixture
def client(standing_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(standing_redis.url) as client:
        yield client


class Bench:
    """A step of four shards that are sent, and workers whose answers the test writes."""

    def __init__(self, client: redis.Redis, *, max_attempts: int = 2) -> None:
        self.client, self.keys = client, RunKeys(new_uid())
        self.blobs = MemoryBlobs()
        ledger = RunLedger(client, self.keys.run, "owner")
        ledger.claim(lease_ms=60_000)
        ledger.take_over(1, lease_ms=60_000)
        request = make_request()
        self.step = OpenStep(
            request,
            cut(request, 3),
            keys=self.keys,
            queue_list=queue_list("inner.cpu"),
            client=client,
            exchange=Exchange(self.blobs, None),
            ledger=ledger,
            signing_key=KEY,
            max_attempts=max_attempts,
        )
        self.step.move_to(1)
        self.step_keys = self.keys.step("train", 7, epoch=1)
        self.jobs = self.send([0, 1, 2, 3])

    def send(self, shards: list[int]) -> dict[int, InnerLoopJob]:
        jobs = self.step.jobs(
            shards,
            plan="a" * 64,
            state="b" * 64,
            state_bytes=1,
            fingerprint="",
            deadline_s=60.0,
        )
        return {job.shard: job for job in jobs}

    def result(self, shard: int, /, **changes: Any) -> ShardResult:
        """A sound answer to the newest job of a shard, with its sum in the store."""
        attempt = self.jobs[shard].attempt
        losses = (0.5,) * SIZES[shard]
        fields = {"shard": shard, "attempt": attempt, "losses": losses, "accuracies": losses}
        result, data = with_blob(make_result(run=self.keys.run, **fields), make_sums(shard))
        self.blobs.put(self.step_keys.blob(shard, attempt), data, ttl_s=60)
        return result.model_copy(update=changes)

    def commit(self, shard: int, text: str) -> None:
        worker = JobLedger(self.client, self.jobs[shard], f"worker {shard}")
        assert worker.start()[0] == "ok"
        assert worker.commit(text) == "ok"

    def answer(self, shard: int, /, **changes: Any) -> None:
        self.commit(shard, sign(self.result(shard, **changes), KEY).model_dump_json())

    def take_in(self) -> list[int]:
        """Take what woke us, then what did not; returns the shards due to be sent."""
        for _, result in wait_for_results(self.client, [self.step], 0.05):
            self.step.take(result, workers_alive=2)
        return self.step.review(workers_alive=2)

    def finish(self) -> str:
        """Do what is open again and soundly; returns the digest of the sum."""
        open_shards = self.step.book.open_shards
        self.jobs.update(self.send(open_shards))
        for shard in open_shards:
            self.answer(shard)
        self.take_in()
        assert self.step.book.is_complete
        return digest(self.step.outcome(2).sums)


@pytest.fixture
def undisturbed(client: redis.Redis) -> str:
    bench = Bench(client)
    for shard in (3, 1, 0, 2):
        bench.answer(shard)
    assert bench.take_in() == []
    return digest(bench.step.outcome(2).sums)


def unsigned(bench: Bench) -> str:
    return bench.result(1).model_dump_json()


def signed_by_another(bench: Bench) -> str:
    return sign(bench.result(1), "another key").model_dump_json()


def signed_in_cyrillic(bench: Bench) -> str:
    return bench.result(1, signature="подпись").model_dump_json()


def of_another_run(bench: Bench) -> str:
    return sign(bench.result(1, run="other"), KEY).model_dump_json()


def of_another_epoch(bench: Bench) -> str:
    return sign(bench.result(1, epoch=7), KEY).model_dump_json()


def of_a_shard_that_is_none(bench: Bench) -> str:
    return sign(bench.result(1, shard=99), KEY).model_dump_json()


def of_another_protocol(bench: Bench) -> str:
    return json.dumps(bench.result(1).to_wire() | {"protocol": 99})


def with_a_loss_that_is_no_number(bench: Bench) -> str:
    return json.dumps(bench.result(1).to_wire() | {"losses": [float("nan")] * 3})


def of_five_megabytes(bench: Bench) -> str:
    return sign(bench.result(1, error="x" * 5_000_000), KEY).model_dump_json()


def no_json(bench: Bench) -> str:
    return "\x00 no JSON"


def nested_without_end(bench: Bench) -> str:
    return "[" * 200_000


def with_another_digest(bench: Bench) -> str:
    return sign(bench.result(1, blob_digest="0" * 64), KEY).model_dump_json()


def without_its_sum(bench: Bench) -> str:
    return sign(bench.result(1, blob_bytes=77), KEY).model_dump_json()


@pytest.mark.parametrize(
    "spoil",
    [
        *(unsigned, signed_by_another, signed_in_cyrillic, of_another_run, of_another_epoch),
        *(of_a_shard_that_is_none, of_another_protocol, with_a_loss_that_is_no_number),
        *(of_five_megabytes, no_json, nested_without_end, with_another_digest, without_its_sum),
    ],
)
def test_an_unsound_result_is_refused_and_its_shard_computed_again(
    client: redis.Redis, undisturbed: str, spoil: Any
) -> None:
    bench = Bench(client)
    for shard in (0, 2, 3):
        bench.answer(shard)

    bench.commit(1, spoil(bench))
    bench.take_in()

    assert bench.take_in() == [1]
    assert bench.step.book.open_shards == [1]
    assert bench.finish() == undisturbed
    assert bench.step.outcome(2).retries == 1


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
