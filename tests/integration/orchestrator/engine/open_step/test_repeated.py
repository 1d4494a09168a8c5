"""Calls that are repeated because Redis went away before they ended."""

from typing import Any

import pytest
import redis

from metafleet.db.engine import Database
from metafleet.orchestrator.engine.replies import wait_for_results
from tests.integration.orchestrator.engine.open_step.bench import Bench


def n_sent(bench: Bench) -> int:
    return sum(
        n for (_, _, outcome, _), n in bench.attempt_counts._counts.items() if outcome == "sent"
    )


def test_with_nothing_left_to_wait_for_redis_is_not_asked(client: redis.Redis) -> None:
    assert list(wait_for_results(client, [], 60.0)) == []


@pytest.mark.parametrize("status", ["failed", "refused", "ok"])
def test_a_result_that_redis_did_not_withdraw_counts_once(
    client: redis.Redis, sqlite: Database, monkeypatch: pytest.MonkeyPatch, status: Any
) -> None:
    bench = Bench(client, sqlite, max_attempts=2)
    away = [redis.ConnectionError("away")] * 2
    reopen = bench.ledger.reopen

    def lose(*arguments: Any, **options: Any) -> None:
        if away:
            raise away.pop()
        reopen(*arguments, **options)

    monkeypatch.setattr(bench.ledger, "reopen", lose)
    bench.answer(1, status=status, blob_digest="0" * 64, error="no memory", is_retryable=True)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            bench.take_in()

    bench.take_in()

    assert client.hkeys(bench.step_keys.done) == []
    assert bench.step.book.open_shards == [0, 1, 2, 3]
    assert sum(bench.counted().values()) == 1


def test_jobs_are_counted_once_though_redis_could_not_tell_the_time(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(client)
    bench.step.move_to(2)
    sent = n_sent(bench)

    def away() -> int:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patch, pytest.raises(redis.ConnectionError):
        patch.setattr(bench.step._clock, "now_us", away)
        bench.send([0])
    bench.send([0])

    assert n_sent(bench) == sent + 1
