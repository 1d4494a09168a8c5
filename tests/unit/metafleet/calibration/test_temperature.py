"""The temperature that validation asks for."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from metafleet.calibration.temperature import (
    HIGHEST,
    LOWEST,
    cross_entropy,
    fit_temperature,
    probabilities,
)


def _drawn(n: int, n_way: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose right probabilities are those at ``temperature``, and classes drawn by them."""
    generator = torch.Generator().manual_seed(3)
    logits = 9.0 * torch.randn(n, n_way, generator=generator, dtype=torch.float64)
    shares = torch.softmax(logits / temperature, dim=1)
    return logits, torch.multinomial(shares, 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.0, 60.0])
def test_the_temperature_is_that_which_a_general_optimiser_finds(temperature: float) -> None:
    logits, targets = _drawn(4000, 5, temperature)

    def loss(log_t: float) -> float:
        shares = torch.softmax(logits / np.exp(log_t), dim=1).numpy()
        return float(log_loss(targets.numpy(), shares, labels=range(5)))

    best = minimize_scalar(loss, bounds=(-5, 9), method="bounded", options={"xatol": 1e-9})
    found = fit_temperature(logits, targets)

    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.1)


def test_two_classes_have_a_closed_form() -> None:
    # three of four right, at a distance of 2 each: sigmoid(2 / T) = 3 / 4
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [5.0, 3.0], [1.0, -1.0]])

    found = fit_temperature(logits, torch.tensor([0, 1, 0, 1]))

    assert found == pytest.approx(2.0 / np.log(3.0), rel=1e-6)


def test_where_everything_is_right_nothing_is_sharpened() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0]])

    assert fit_temperature(logits, torch.tensor([0, 1])) == 1.0


def test_where_answers_mislead_all_classes_become_alike() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0]])

    found = fit_temperature(logits, torch.tensor([1, 0]))

    assert found == pytest.approx(HIGHEST)
    assert probabilities(logits, found)[0, 0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("bound", [LOWEST, HIGHEST])
def test_a_temperature_at_a_bound_is_within_it(bound: float) -> None:
    # two of three right by 1e-6 * bound or 1e6 * bound, so the best temperature is beyond it
    apart = bound * (1e-6 if bound == LOWEST else 1e6)
    logits = torch.tensor([[apart, 0.0]] * 3, dtype=torch.float64)

    found = fit_temperature(logits, torch.tensor([0, 0, 1]))

    assert found == pytest.approx(bound)
    assert LOWEST <= found <= HIGHEST


def test_the_scale_of_logits_does_not_change_probabilities() -> None:
    logits, targets = _drawn(500, 4, 3.0)
    found = [
        probabilities(scale * logits, fit_temperature(scale * logits, targets))
        for scale in (1.0, 50.0)
    ]

    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)


def test_the_loss_is_that_of_scikit_learn() -> None:
    logits, targets = _drawn(300, 4, 3.0)
    shares = probabilities(logits, 3.0)

    expected = log_loss(targets.numpy(), shares.numpy(), labels=range(4))

    assert cross_entropy(logits, targets, 3.0) == pytest.approx(expected)
    assert cross_entropy(logits.view(3, 100, 4), targets.view(3, 100), 3.0) == pytest.approx(
        expected
    )


def test_the_loss_of_probabilities_below_the_smallest_float_is_exact() -> None:
    logits = torch.tensor([[2000.0, 0.0], [0.0, 5.0]])  # -log(sigmoid(-2000)) is 2000 in a float64

    found = cross_entropy(logits, torch.tensor([1, 0]), 1.0)

    assert found == pytest.approx((2000.0 + np.log1p(np.exp(5.0))) / 2)
