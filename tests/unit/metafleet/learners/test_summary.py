import math
import random
import statistics

import pytest

from metafleet.errors import ConfigError
from metafleet.learners.base import EpisodeMetrics
from metafleet.learners.summary import Summary, summarise


def test_means_and_half_widths_are_those_of_the_textbook() -> None:
    rng = random.Random(1)
    metrics = [EpisodeMetrics(rng.gauss(1, 0.5), rng.random()) for _ in range(50)]
    accuracies = [m.accuracy for m in metrics if m.accuracy is not None]

    found = summarise(metrics)

    assert found.n_episodes == 50
    assert found.loss == pytest.approx(statistics.fmean(m.loss for m in metrics))
    assert found.accuracy_ci95 == pytest.approx(1.96 * statistics.stdev(accuracies) / math.sqrt(50))
    rng.shuffle(metrics)
    assert summarise(metrics) == found


def test_the_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    rng = random.Random(2)
    hits = 0
    for _ in range(1000):
        found = summarise([EpisodeMetrics(rng.gauss(3, 2), None) for _ in range(60)])
        hits += abs(found.loss - 3) <= found.loss_ci95
    assert 925 <= hits <= 975


def test_regression_has_no_accuracy() -> None:
    found = summarise([EpisodeMetrics(1.0, None), EpisodeMetrics(3.0, None)])
    assert found == Summary(2, 2.0, pytest.approx(1.96), None, None)


def test_one_episode_has_no_spread_and_none_is_refused() -> None:
    assert summarise([EpisodeMetrics(1.5, 0.25)]) == Summary(1, 1.5, 0.0, 0.25, 0.0)
    with pytest.raises(ConfigError, match="0 episodes have no mean"):
        summarise([])
