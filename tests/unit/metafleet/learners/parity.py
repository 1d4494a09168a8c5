"""Compares a learner's meta-gradient with one written straight from its paper."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metafleet.episode import Episode, ExampleSet
from metafleet.learners.base import Learner
from metafleet.params import MetaState, Params
from tests.unit.metafleet.by_hand import conv4_by_hand, loss_by_hand, mlp_by_hand
from tests.unit.metafleet.few_shot import TINY_CONV4, TINY_MLP

Loss = Callable[[Params], Tensor]
MODELS: dict[str, dict[str, Any]] = {
    "mlp": TINY_MLP,
    "conv4": TINY_CONV4 | {"batch_norm": "transductive"},
    "conv4 without batch norm": TINY_CONV4 | {"batch_norm": "none"},
}


def loss_of(model: str, examples: ExampleSet) -> Loss:
    """Return params -> mean cross-entropy of ``examples``, by hand."""

    def loss(params: Params) -> Tensor:
        images = examples.inputs["image"]
        if model == "mlp":
            outputs = mlp_by_hand(params, images)
        else:
            outputs = conv4_by_hand(params, images, has_norm=model == "conv4")
        return loss_by_hand(outputs, examples.targets)

    return loss


def assert_differentiates(
    learner: Learner, state: MetaState, episode: Episode, query_loss: Loss
) -> None:
    """Compare with the derivative of ``query_loss``, parameters -> what meta-training minimises."""
    assert_gives(learner, state, episode, grad(query_loss)(state.params))
    found = learner.episode_gradient(state, episode).metrics[0].loss
    assert found == pytest.approx(float(query_loss(state.params)), rel=1e-10)


def assert_gives(learner: Learner, state: MetaState, episode: Episode, expected: Params) -> None:
    """Compare with ``expected``, none of which may be zero."""
    found = learner.episode_gradient(state, episode).grads
    assert found.keys() == expected.keys() == state.params.keys()
    for name, value in expected.items():
        assert bool((value != 0).any()), name
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11, msg=name)
