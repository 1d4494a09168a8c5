"""Label sets hold the right label as often as was asked for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metafleet.calibration.conformal import (
    N_LEVELS,
    coverage_thresholds,
    is_covered,
    label_sets,
    threshold_of,
)


def _shares_of_right(right: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two-way probabilities with those of the right class given, [episodes, queries]."""
    first = torch.tensor(right, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=-1), torch.zeros(first.shape, dtype=torch.int64)


def _episodes(
    n_episodes: int, n_queries: int, *, spread: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Episodes drawn alike, of which some are hard as a whole: queries of one are dependent."""
    generator = torch.Generator().manual_seed(seed)
    ease = 1.0 + spread * torch.randn(n_episodes, 1, 1, generator=generator, dtype=torch.float64)
    targets = torch.randint(4, (n_episodes, n_queries), generator=generator)
    noise = torch.randn(n_episodes, n_queries, 4, generator=generator, dtype=torch.float64)
    hot = torch.nn.functional.one_hot(targets, 4).double()
    return torch.softmax(2 * ease * hot + noise, dim=-1), targets


def test_of_one_query_an_episode_the_threshold_is_that_of_split_conformal() -> None:
    generator = torch.Generator().manual_seed(1)
    right = torch.rand(99, 1, generator=generator, dtype=torch.float64)
    shares, targets = _shares_of_right(right.tolist())

    found = threshold_of(coverage_thresholds(shares, targets), 0.9)

    # the ceil(0.9 * (99 + 1))-th smallest of 1 - p
    expected = sorted((1 - right.flatten()).tolist())[89]
    assert found == math.ceil(expected * 1e6) / 1e6


def test_the_queries_of_an_episode_share_its_weight() -> None:
    shares, targets = _shares_of_right([[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]])
    thresholds = coverage_thresholds(shares, targets)

    # each query weighs 1 / (3 + 1) / 2, so half of the weight is at the fourth of six
    assert threshold_of(thresholds, 0.5) == pytest.approx(1 - 0.6)
    assert threshold_of(thresholds, 0.75) == pytest.approx(1 - 0.4)
    assert threshold_of(thresholds, 0.76) == 1.0  # too few episodes for that


def test_coverage_between_two_levels_is_that_of_the_next() -> None:
    shares, targets = _episodes(300, 10, spread=0.5, seed=1)
    thresholds = coverage_thresholds(shares, targets)

    assert threshold_of(thresholds, 0.9001) == thresholds[900] == threshold_of(thresholds, 0.901)
    assert threshold_of(thresholds, 0.9) == thresholds[899]
    assert threshold_of(thresholds, 0.9995) == 1.0
    assert threshold_of(thresholds, 1e-12) == thresholds[0]
    assert len(thresholds) == N_LEVELS - 1
    assert list(thresholds) == sorted(thresholds)


def test_all_labels_are_in_the_set_of_the_last_threshold() -> None:
    shares, _ = _episodes(5, 3, spread=0.5, seed=1)

    assert label_sets(shares, 1.0).all()
    assert not label_sets(shares, 0.0).any()


@settings(max_examples=12, deadline=None)
@given(
    asked=st.sampled_from([0.7, 0.8, 0.9, 0.95]),
    spread=st.floats(0.0, 1.0),
    seed=st.integers(0, 10**6),
)
def test_episodes_drawn_alike_are_covered_as_asked(asked: float, spread: float, seed: int) -> None:
    shares, targets = _episodes(8000, 8, spread=spread, seed=seed)
    thresholds = coverage_thresholds(shares[:4000], targets[:4000])
    sets = label_sets(shares[4000:], threshold_of(thresholds, asked))

    covered = is_covered(sets, targets[4000:]).double().mean(dim=1)

    # both halves are random: the standard error of the difference, five times
    error = 5 * math.sqrt(2 * float(covered.var()) / 4000)
    assert float(covered.mean()) == pytest.approx(asked, abs=error + 1 / N_LEVELS)


def test_the_guarantee_holds_on_average_over_few_episodes_too() -> None:
    covered = []
    for seed in range(400):
        shares, targets = _episodes(20, 4, spread=1.0, seed=seed)
        thresholds = coverage_thresholds(shares[:19], targets[:19])
        sets = label_sets(shares[19:], threshold_of(thresholds, 0.8))
        covered.append(float(is_covered(sets, targets[19:]).double().mean()))

    # 0.8 or more is promised; 400 further episodes tell it within 0.06
    assert sum(covered) / len(covered) > 0.8 - 0.06
    assert sum(covered) / len(covered) < 0.8 + 1 / 20 + 0.06
