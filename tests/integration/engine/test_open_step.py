"""An open step against a real Redis: what lies there unsound is refused and computed again."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from contracts.connections import connect
from contracts.exchange import Exchange
from contracts.job import InnerLoopJob, ShardResult
from contracts.keys import RunKeys, queue_list
from contracts.ledger import JobLedger, RunLedger
from contracts.signing import sign
from db.attempt_records import AttemptCountRecord, AttemptRecord, Outcome
from db.engine import Database
from db.repositories import AttemptCountRepository, AttemptRepository
from metafleet.errors import NumericsError, ShardQuarantinedError
from metafleet.params import Params, digest
from orchestrator.engine.open_step import OpenStep
from orchestrator.engine.queue_mark import QueueMark
from orchestrator.engine.replies import wait_for_results
from orchestrator.engine.step import cut
from orchestrator.engine.tally import Tally
from orchestrator.rows import EpochRow, write_rows
from tests.databases import add_run
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_request, make_result, make_sums, new_uid, with_blob
from tests.redis_server import RedisServer

KEY = "key"
QUEUE = "inner.cpu"
SIZES = (3, 3, 3, 1)


@pytest.fixture
def client(standing_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(standing_redis.url) as client:
        yield client


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/metafleet.db") as database:
        yield database


class Bench:
    """A step of four shards that are sent, and workers whose answers the test writes.

    What the engine counts goes into a database, as it does in a run.
    """

    def __init__(
        self, client: redis.Redis, database: Database | None = None, *, max_attempts: int = 2
    ) -> None:
        self._database = database
        self._run_id = add_run(database).id if database is not None else 0
        self.tally = Tally(self._write) if database is not None else Tally()
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
            marks={QUEUE: QueueMark(client, queue_list(QUEUE))},
            client=client,
            exchange=Exchange(self.blobs, None),
            ledger=ledger,
            signing_key=KEY,
            max_attempts=max_attempts,
            tally=self.tally,
        )
        self.step.move_to(1)
        self.step_keys = self.keys.step("train", 7, epoch=1)
        self.jobs = self.send([0, 1, 2, 3])

    def _write(
        self, attempts: Sequence[AttemptRecord], counts: Sequence[AttemptCountRecord]
    ) -> None:
        assert self._database is not None
        rows = [EpochRow(0, row) for row in (*attempts, *counts)]
        write_rows(self._database, self._run_id, rows, epoch=0, own_from=0)

    def counted(self) -> dict[tuple[str, str], int]:
        """What the database has after the step's end, but for attempts sent and counted."""
        assert self._database is not None
        self.step.close()
        self.tally.flush()
        with self._database.session(read_only=True) as session:
            totals = AttemptCountRepository(session).totals(self._run_id)
        usual = (Outcome.SENT, Outcome.COUNTED)
        return {(t.outcome, t.reason): t.n for t in totals if t.outcome not in usual}

    def rows(self) -> tuple[AttemptRecord, ...]:
        assert self._database is not None
        with self._database.session(read_only=True) as session:
            return AttemptRepository(session).list(self._run_id)

    def send(self, shards: list[int]) -> dict[int, InnerLoopJob]:
        jobs = self.step.jobs(
            dict.fromkeys(shards, QUEUE),
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
        return self.step.review(alive={QUEUE: 2})

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


def with_a_sum(bench: Bench, sums: Params) -> str:
    result, data = with_blob(bench.result(1), sums)
    bench.blobs.put(bench.step_keys.blob(1, result.attempt), data, ttl_s=60)
    return sign(result, KEY).model_dump_json()


def with_a_sum_of_another_shape(bench: Bench) -> str:
    sums = make_sums(1)
    name = next(name for name, tensor in sums.items() if tensor.ndim == 2)
    return with_a_sum(bench, {**sums, name: sums[name].t().contiguous()})


def with_a_sum_that_is_not_finite(bench: Bench) -> str:
    return with_a_sum(bench, {name: tensor * float("inf") for name, tensor in make_sums(1).items()})


def whose_sum_is_gone(bench: Bench) -> str:
    text = sign(bench.result(1), KEY).model_dump_json()
    del bench.blobs.blobs[bench.step_keys.blob(1, bench.jobs[1].attempt)]
    return text


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unsigned, "signature"),
        (signed_by_another, "signature"),
        (signed_in_cyrillic, "signature"),
        (of_another_run, "stale"),
        (of_another_epoch, "stale"),
        (of_a_shard_that_is_none, "schema"),
        (of_another_protocol, "protocol"),
        (with_a_loss_that_is_no_number, "non_finite"),
        (of_five_megabytes, "oversized"),
        (no_json, "schema"),
        (nested_without_end, "schema"),
        (with_another_digest, "digest"),
        (without_its_sum, "length"),
        (with_a_sum_of_another_shape, "schema"),
        (with_a_sum_that_is_not_finite, "non_finite"),
        (whose_sum_is_gone, "missing_blob"),
    ],
)
def test_an_unsound_result_is_refused_counted_and_its_shard_computed_again(
    client: redis.Redis, sqlite: Database, undisturbed: str, spoil: Any, reason: str
) -> None:
    bench = Bench(client, sqlite)
    for shard in (0, 2, 3):
        bench.answer(shard)

    bench.commit(1, spoil(bench))
    bench.take_in()

    assert bench.take_in() == [1]
    assert bench.step.book.open_shards == [1]
    assert bench.finish() == undisturbed
    outcome = bench.step.outcome(2)
    assert (outcome.retries, outcome.attempts, outcome.dropped) == (1, 5, 1)
    assert bench.counted() == {("rejected", reason): 1}


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
def test_what_workers_could_not_do_is_counted_with_its_reason(
    client: redis.Redis, sqlite: Database, status: Any, reason: str
) -> None:
    bench = Bench(client, sqlite)
    bench.answer(2, status=status, reason=reason, error="host:42: no", is_retryable=True)
    bench.take_in()

    assert bench.counted() == {(status, reason): 1}
    assert [row.detail for row in bench.rows()] == ["host:42: no"]


def test_what_comes_late_is_counted_by_its_shard_at_the_next_close(
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


def test_attempts_that_a_new_epoch_gives_up_are_counted(
    client: redis.Redis, sqlite: Database
) -> None:
    bench = Bench(client, sqlite)
    bench.answer(0)
    bench.take_in()

    assert bench.step.forget_sent() == [1, 2, 3]

    assert bench.counted() == {("lost", "epoch"): 3}


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
