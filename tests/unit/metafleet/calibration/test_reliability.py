"""The reliability diagram and the error that sums it up."""

import pytest
import torch
from sklearn.calibration import calibration_curve

from metafleet.calibration.reliability import (
    N_BINS,
    expected_calibration_error,
    reliability_bins,
)


def _answers(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shares = torch.softmax(2 * torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=1)
    return shares, torch.randint(3, (n,), generator=generator)


def test_bins_are_those_of_scikit_learn() -> None:
    shares, targets = _answers(2000)
    confidence, answers = shares.max(dim=1)
    accuracy, mean = calibration_curve(
        (answers == targets).numpy(), confidence.numpy(), n_bins=N_BINS
    )

    bins = [each for each in reliability_bins(shares, targets) if each.answers]

    assert [each.accuracy for each in bins] == pytest.approx(accuracy.tolist())
    assert [each.confidence for each in bins] == pytest.approx(mean.tolist())
    assert sum(each.answers for each in bins) == 2000


def test_the_error_of_two_bins_is_computed_by_hand() -> None:
    # three answers at 0.6, one of them right; one at 0.9, which is right
    shares = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    bins = reliability_bins(shares, torch.tensor([0, 1, 0, 1]))

    # 3/4 |1/3 - 0.6| + 1/4 |1 - 0.9|
    assert expected_calibration_error(bins) == pytest.approx(0.2 + 0.025)


def test_bounds_belong_to_the_bin_below_and_certainty_to_the_last() -> None:
    shares = torch.tensor([[1.0, 0.0], [0.8, 0.2]], dtype=torch.float64)
    bins = reliability_bins(shares, torch.tensor([0, 0]))

    assert [place for place, each in enumerate(bins) if each.answers] == [11, 14]
    assert (bins[11].lower, bins[11].upper) == (pytest.approx(11 / 15), 0.8)


def test_answers_drawn_by_their_probabilities_have_a_small_error() -> None:
    shares, _ = _answers(20_000)
    generator = torch.Generator().manual_seed(2)
    targets = torch.multinomial(shares, 1, generator=generator).squeeze(1)

    assert expected_calibration_error(reliability_bins(shares, targets)) < 0.02
    assert expected_calibration_error(reliability_bins(shares**3, targets)) > 0.05
