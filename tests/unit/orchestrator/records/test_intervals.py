"""Means over seeds, against SciPy and by hand."""

import math

import pytest
from scipy import stats

from metafleet.orchestrator.records.intervals import Mean, quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6, 7, 10, 29, 30, 99, 500])
def test_the_quantile_is_that_of_students_distribution(degrees: int) -> None:
    assert quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_a_mean_has_the_interval_of_its_seeds() -> None:
    mean = Mean.of([0.9, 0.92, 0.97])

    low, high = stats.t.interval(0.95, 2, loc=0.93, scale=math.sqrt(0.0013 / 3))
    assert (mean.n, mean.mean) == (3, pytest.approx(0.93))
    assert mean.ci95 == pytest.approx((high - low) / 2)


def test_an_infinite_seed_has_an_infinite_interval() -> None:
    assert Mean.of([math.inf, 1.0]) == Mean(2, math.inf, math.inf)


def test_a_single_seed_has_no_interval() -> None:
    assert Mean.of([0.5]) == Mean(1, 0.5, None)
