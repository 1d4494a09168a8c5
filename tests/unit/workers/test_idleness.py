"""How long a worker has had nothing to do."""

from types import SimpleNamespace

import pytest
from celery.worker import state

from metafleet.workers import idleness
from metafleet.workers.idleness import Idleness


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(idleness.time, "monotonic", lambda: clock.now_s)
    monkeypatch.setattr(state, "active_requests", set())
    monkeypatch.setattr(state, "all_total_count", [0])
    return clock


def test_it_counts_from_the_start_when_no_job_came(clock: SimpleNamespace) -> None:
    stopwatch = Idleness()
    clock.now_s += 7

    assert stopwatch.look() == 7


def test_a_job_at_hand_and_one_that_came_and_went_end_it(clock: SimpleNamespace) -> None:
    stopwatch = Idleness()
    clock.now_s += 7
    state.active_requests.add("a job")
    assert stopwatch.look() == 0

    state.active_requests.clear()
    clock.now_s += 5
    assert stopwatch.look() == 5

    state.all_total_count[0] += 1  # between two looks
    assert stopwatch.look() == 0


def test_a_pool_whose_children_still_start_is_not_idle(clock: SimpleNamespace) -> None:
    children: list[int] = []
    stopwatch = Idleness(children)
    clock.now_s += 30
    assert stopwatch.look() == 0

    children.append(1)
    clock.now_s += 3
    assert stopwatch.look() == 3
