"""A dispatcher repeats a call whose connection broke, with the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from metafleet.contracts.blobs import RedisBlobStore
from metafleet.contracts.connections import connect
from metafleet.contracts.ledger import RunLedger
from tests.fleet import Fleet
from tests.integration.orchestrator.engine.test_several_steps import Bench


def breaks_at(nth: int, call: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """Wrap ``call``: its nth time, the connection breaks before it, or after it."""
    n_calls = 0

    def breaking(*arguments: Any, **options: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == nth and not after:
            raise redis.ConnectionError("the connection broke")
        answer = call(*arguments, **options)
        if n_calls == nth:
            raise redis.ConnectionError("the answer was lost")
        return answer

    return breaking


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_connection_that_breaks_as_the_last_sum_of_a_step_is_deleted(
    standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    through_redis = Fleet(replace(standing_fleet.settings, host_cache_dir=Path("/proc/none")))
    bench = Bench(through_redis)
    try:
        bench.fleet.run_step(bench.request(1))  # of the first step, one shard is computed twice
        request = bench.request(2)
        delete = breaks_at(4, RedisBlobStore.delete, after=after)
        monkeypatch.setattr(RedisBlobStore, "delete", delete)

        outcome = bench.fleet.run_step(request)

        bench.assert_as_here(outcome, request)
        assert (len(outcome.jobs), outcome.retries) == (4, 0)
        assert [notice[:8] for notice in bench.notices] == ["waiting:", "Redis is"]
    finally:
        bench.fleet.close()


def test_an_epoch_whose_beginning_was_not_answered_has_begun_for_every_open_step(
    standing_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(standing_fleet)
    try:
        monkeypatch.setattr(RunLedger, "take_over", breaks_at(1, RunLedger.take_over, after=True))
        with connect(str(standing_fleet.settings.broker_url)) as client:
            requests = [bench.request(1), bench.request(2)]
            tickets = [bench.fleet.begin(request) for request in requests]
            client.delete(f"mf:{{{bench.uid}}}:epoch")

            outcomes = [bench.fleet.finish(ticket) for ticket in tickets]

        for outcome, request in zip(outcomes, requests, strict=True):
            bench.assert_as_here(outcome, request)
        assert bench.fleet.epoch >= 2
    finally:
        bench.fleet.close()
