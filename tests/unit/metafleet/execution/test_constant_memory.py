"""Memory that does not grow with inner steps, with exact derivatives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metafleet.execution import make_execution
from metafleet.learners.base import Learner
from metafleet.params import MetaState
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    classification_episode,
    make_learner,
    random_state,
)

EPISODE = classification_episode(seed=90)


def learner_of(name: str, **options: Any) -> Learner:
    return make_learner(
        EPISODE,
        model=TINY_CONV4 | {"batch_norm": "per_step"},
        learner={"name": name, "inner_lr": 0.2} | options,
    )


def most_saved_bytes(strategy: str, inner_steps: int) -> int:
    """Count what autograd holds at a time, each tensor once, while a gradient is computed."""
    learner = learner_of("maml", inner_steps=inner_steps)
    state = random_state(learner)
    held: dict[int, int] = {}
    most = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor, self.place = tensor, id(self)
            held[self.place] = tensor.numel() * tensor.element_size()
            nonlocal most
            most = max(most, sum(held.values()))

        def __del__(self) -> None:
            held.pop(self.place, None)

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
        make_execution(strategy, learner).gradient(state, [EPISODE])
    return most


def test_what_is_kept_for_the_way_back_does_not_grow_with_inner_steps() -> None:
    few, many = (most_saved_bytes("constant_memory", n) for n in (2, 12))
    plain_few, plain_many = (most_saved_bytes("autograd", n) for n in (2, 12))

    assert few > 0
    assert many <= 1.05 * few
    assert plain_many > 3 * plain_few


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("maml", {"inner_steps": 3}),
        ("maml_plus_plus", {"inner_steps": 2, "first_order_epochs": 0, "multi_step_epochs": 1}),
        ("meta_curvature", {"inner_steps": 2}),
    ],
)
def test_gradients_match_finite_differences(name: str, options: dict[str, Any]) -> None:
    learner = learner_of(name, **options)
    execution = make_execution("constant_memory", learner)
    state = random_state(learner)
    grads = execution.gradient(state, [EPISODE]).grads
    generator = torch.Generator().manual_seed(5)
    step = 1e-7  # short: MAML is not even continuous where a ReLU or a maximum switches
    for parameter, value in state.params.items():
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        losses = [
            execution.gradient(
                MetaState(state.params | {parameter: value + sign * direction}, state.buffers),
                [EPISODE],
            )
            .metrics[0]
            .loss
            for sign in (step, -step)
        ]
        expected = (losses[0] - losses[1]) / (2 * step)
        found = float((grads[parameter] * direction).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6), parameter
