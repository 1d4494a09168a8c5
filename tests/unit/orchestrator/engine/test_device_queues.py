"""The window: long shards two for each process, short ones many."""

import pytest

from metafleet.orchestrator.engine.device_queues import LEAST_WINDOW, MOST_IN_HAND, Window


def test_until_something_is_known_each_process_has_two() -> None:
    assert Window().size(10) == 20


@pytest.mark.parametrize(
    ("compute_s", "in_hand"), [(30.0, 2), (0.1, 2), (0.02, 5), (0.0001, MOST_IN_HAND), (0.0, 16)]
)
def test_each_process_has_a_tenth_of_a_second_in_hand(compute_s: float, in_hand: int) -> None:
    window = Window()
    window.note(compute_s)

    assert window.size(10) == 10 * in_hand


def test_one_slow_shard_does_not_narrow_it() -> None:
    window = Window()
    for compute_s in (0.01, 5.0, 0.01):
        window.note(compute_s)

    assert window.size(1) == 10


def test_old_durations_are_forgotten() -> None:
    window = Window()
    for compute_s in [0.001] * 100 + [1.0] * 32:
        window.note(compute_s)

    assert window.size(5) == 10


def test_a_few_jobs_are_sent_even_without_workers() -> None:
    assert Window().size(0) == LEAST_WINDOW
