"""A dispatcher repeats a call whose connection broke, with the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from metafleet.contracts.blobs import RedisBlobStore
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
