"""Paired tests, against SciPy and on data whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from metafleet.orchestrator.records.paired import holm, over_episodes, over_seeds

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("n", [2, 3, 30, 600])
def test_p_is_that_of_the_paired_t_test(n: int) -> None:
    first, other = RNG.normal(size=n), RNG.normal(0.1, size=n)

    expected = stats.ttest_rel(other, first).pvalue
    assert over_episodes(other - first).p == pytest.approx(expected, rel=1e-9)
    assert over_seeds(list(other - first)).p == pytest.approx(expected, rel=1e-9)


def test_the_bootstrap_interval_is_near_that_of_the_t_test_and_always_the_same() -> None:
    differences = RNG.normal(0.02, 0.1, size=600)

    found = over_episodes(differences)
    low, high = stats.t.interval(0.95, 599, differences.mean(), stats.sem(differences))
    assert found.low == pytest.approx(low, abs=6e-4)
    assert found.high == pytest.approx(high, abs=6e-4)
    assert over_episodes(differences) == found


def test_equal_results_show_no_difference() -> None:
    found = over_episodes([0.0] * 100)

    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("differences", [[0.25], [0.5, 0.5], [0.1] * 3, [0.1] * 600], ids=len)
def test_without_a_spread_interval_and_test_are_not_defined(differences: list[float]) -> None:
    for found in (over_episodes(differences), over_seeds(differences)):
        assert found.mean == pytest.approx(differences[0])
        assert (found.low, found.high, found.p) == (None, None, None)


@pytest.mark.parametrize("n", [2, 10, 49])
def test_few_episodes_have_the_interval_of_the_t_test(n: int) -> None:
    differences = RNG.normal(0.1, 1.0, size=n)

    found = over_episodes(differences)

    low, high = stats.t.interval(0.95, n - 1, differences.mean(), stats.sem(differences))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p is not None and (found.p < 0.05) == (not low <= 0 <= high)


def test_intervals_of_few_episodes_contain_the_truth_as_often_as_they_should() -> None:
    draws = [over_episodes(list(RNG.normal(size=10))) for _ in range(2000)]

    held = [one.low <= 0 <= one.high for one in draws if one.low is not None and one.high]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_without_a_difference_few_tests_find_one() -> None:
    tests = [over_seeds(list(RNG.normal(size=5))).p for _ in range(2000)]

    assert np.mean(np.array(tests) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_several_comparisons_are_corrected_as_by_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
