"""Corrupt results in Redis are refused, counted and computed again."""

import json
from typing import Any

import pytest
import redis

from metafleet.contracts.signing import sign
from metafleet.db.engine import Database
from metafleet.params import Params
from tests.integration.orchestrator.engine.open_step.bench import KEY, Bench
from tests.messages import make_sums, with_blob


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
