"""Losses, learners and numbers of tasks that a training loop refuses."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError, DataError
from metafleet.learners.maml import Maml
from tests.unit.metafleet.script.by_hand import values_of
from tests.unit.metafleet.script.modules import (
    batches,
    dense_net,
)

LR = 0.1


def detached(module: nn.Module, x: Tensor) -> Tensor:
    return module(x).detach().square().mean()


def differentiated(module: nn.Module, x: Tensor) -> Tensor:
    loss = module(x).square().mean()
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda module, x: module(x).square().mean(1),
            r"the loss has shape \(8,\); expected a sca",
        ),
        (lambda module, x: module(x).square().mean()[None], r"the loss has shape \(1,\)"),
        (detached, "does not depend on the module's parameters"),
        (lambda module, x: torch.tensor(1.0), "does not depend on the module's parameters"),
        (lambda module, x: nn.Linear(5, 3)(x.float()).mean(), "does not depend on the module's"),
        (differentiated, r"the loss was differentiated before; leave out loss.backward\(\)"),
    ],
)
def test_a_loss_that_says_nothing_is_refused_in_one_line(
    make: Callable[[nn.Module, Tensor], Tensor], message: str
) -> None:
    module, ((x, _),) = dense_net(), batches(1)
    before = values_of(module)
    meta = MetaLearner(module)

    with pytest.raises(ConfigError, match=message) as caught:
        meta.optimize(make(module, x))

    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[n], v) for n, v in module.named_parameters())
    assert meta.next_task() is None


def test_a_loss_of_outputs_from_before_the_last_step_is_refused() -> None:
    module, ((x, y),) = dense_net(), batches(1)
    first, second = (F.cross_entropy(module(x), y) for _ in range(2))
    meta = MetaLearner(module, inner_lr=LR)
    meta.optimize(first)

    with pytest.raises(ConfigError, match="computed before the last optimize moved the parameters"):
        meta.optimize(second)


class Further(Maml):
    """MAML, perhaps with something else besides."""


@pytest.mark.parametrize(
    "algorithm", ["protonet", "cavia", "imaml", "maml_plus_plus", "protomaml", "mmaml", Further]
)
def test_learners_that_need_whole_episodes_say_so(algorithm: str | type) -> None:
    module, ((x, y),) = dense_net(), batches(1)
    before = values_of(module)

    with pytest.raises(ConfigError, match=r"call optimize\(\[\(sx, sy, qx, qy\)\]\)") as caught:
        MetaLearner(module, algorithm).optimize(F.cross_entropy(module(x), y))

    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[n], v) for n, v in module.named_parameters())


def test_a_number_in_place_of_the_loss_is_named() -> None:
    module, ((x, y),) = dense_net(), batches(1)
    with pytest.raises(DataError, match=r"episodes are of type float.*the loss of a batch as the"):
        MetaLearner(module).optimize(F.cross_entropy(module(x), y).item())


@pytest.mark.parametrize("value", [0, 1.5, True, "2"])
def test_a_wrong_number_of_tasks_is_named(value: object) -> None:
    with pytest.raises(ConfigError, match=r"tasks_per_step=.*; expected a whole number, 1 or more"):
        MetaLearner(dense_net(), tasks_per_step=value)
