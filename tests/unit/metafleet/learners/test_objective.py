"""What is refused as not finite, and what is not."""

import pytest
import torch

from metafleet.errors import NumericsError
from metafleet.learners.objective import judge, require_finite_gradients

LOSS = torch.tensor(0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_parameter_whose_gradient_is_not_finite_is_named(value: float) -> None:
    grads = {name: torch.randn(3, 4) for name in ("first", "second", "third")}
    grads["second"][1, 2] = value
    with pytest.raises(NumericsError, match="gradient of 'second' is not finite"):
        require_finite_gradients(grads, LOSS)


def test_infinities_that_cancel_are_refused_as_well() -> None:
    grads = {"a": torch.tensor([float("inf"), 1.0]), "b": torch.tensor([-float("inf")])}
    with pytest.raises(NumericsError, match="gradient of 'a' is not finite"):
        require_finite_gradients(grads, LOSS)


def test_finite_gradients_pass_even_where_their_sum_is_not_finite() -> None:
    require_finite_gradients({"a": torch.full((4,), 3e38), "b": torch.randn(2)}, LOSS)


def test_no_gradients_are_finite() -> None:
    require_finite_gradients({}, LOSS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_query_loss_that_is_not_finite_is_refused(value: float) -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    with pytest.raises(NumericsError, match=f"query loss is {value}"):
        judge(logits, targets, torch.tensor(value), is_regression=False)
